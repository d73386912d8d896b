# Gradtrace as a container: built in one stage, run in another that holds only what runs.
#   docker build --tag gradtrace .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --publish 127.0.0.1:8000:8000 gradtrace

ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS build
# A wheel index of PyTorch's, say that of the CPU builds; empty: whatever pip is set up to use.
ARG TORCH_INDEX=""
# The build alone needs binutils; whichever the base's Debian has will do.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/gradtrace/bin:${PATH}
WORKDIR /src
COPY deploy/requirements.lock constraints.txt ./
# Everything is held to its hash but torch, whose wheel differs by index, and what only some of its
# wheels need: the CUDA build, which is PyPI's, brings NVIDIA's libraries.
RUN python3 -m venv /opt/gradtrace \
 && pip install --require-hashes --no-deps --requirement requirements.lock \
 && pip install --constraint constraints.txt \
      ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} torch
COPY pyproject.toml README.md LICENSE deploy/trim.py ./
COPY service service
COPY tests/conformance/golden tests/conformance/golden
RUN PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt pip install --no-deps . \
 && python3 trim.py /opt/gradtrace \
 && python3 -c 'import torch.export'

FROM ${BASE}
ARG VERSION=dev
LABEL org.opencontainers.image.title="Gradtrace" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.description="Values and gradients of every node of a graph, computed by PyTorch, over HTTP" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/gradtrace /opt/gradtrace
ENV PATH=/opt/gradtrace/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GRADTRACE_HOST=0.0.0.0
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["gradtrace", "health"]
ENTRYPOINT ["gradtrace"]
CMD ["serve"]
