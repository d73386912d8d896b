"""What is refused before a kernel sees it, because it is known to bring PyTorch down.

Each row names kernels, as :attr:`Operation.base` does, and a check of a few comparisons on their
arguments, made at run time just before the call; `linalg.eig` alone is tried out first. What cannot
be decided cheaply is left to the worker, a process that may die or be stopped: a
`special.legendre_polynomial_p` or `special.laguerre_polynomial_l` of degree 1e15 ends at the time
limit, the products of `cartesian_prod` and `combinations` at the memory limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from service.contract.problem import BadArguments

Arguments = Mapping[str, Any]
"""The arguments of a call by the parameters' names; those that were left out are not there."""
Guard = Callable[[Arguments], str | None]
"""Raises what is refused; where that is the call's backward pass only, returns the reason."""

MAX_OUTPUTS = 100_000
MAX_POWER_ITERATIONS = 1_000
MAX_DIMENSIONS = 64
"""PyTorch's own limit, which some ops meet only after endless work."""
MAX_SIZE = 2**31
"""Paddings beyond it, windows of its size and strides whose product is, overflow in kernels."""
MAX_RANDOM_SAMPLE = 1000
"""Of fractional pooling: PyTorch draws them from 0 to 1; its own tests go to 9 on either side."""
SCALES = 1e-6, 1e6
"""Of interpolation: the least and the most."""
ROUNDING = 1e-7
"""Of its coordinates, in float32."""
LSTM_GATES, GRU_GATES = 4, 3
ENUM_SIZE = 3
"""Interpolation and padding modes of grid sampling, as kernels number them."""


def _refusal(reason: str) -> BadArguments:
    return BadArguments(f"{reason}; PyTorch would crash, hang or answer with foreign memory")


def _refuse_if(bad: bool, reason: str) -> None:
    if bad:
        raise _refusal(reason)


def _listed(sizes: Any) -> Sequence[Any]:
    """Return a list for what may be a list or a single number."""
    return sizes if isinstance(sizes, Sequence) else [sizes]


def _each(sizes: Any, dims: int) -> Sequence[Any]:
    """Return a size for each of ``dims``: what is given, or the only one so many times."""
    listed = _listed(sizes)
    return [*listed] * dims if len(listed) == 1 else listed


def _input_of(arguments: Arguments) -> Tensor:
    """Return the first tensor, which functions call input and kernels self."""
    tensor: Tensor = arguments["self"] if "self" in arguments else arguments["input"]
    return tensor


def _div(arguments: Arguments) -> None:
    """INT_MIN / -1 overflows: SIGFPE."""
    if arguments.get("rounding_mode") != "trunc":
        return
    dividend, divisor = arguments["self"], arguments["other"]
    dtype = torch.result_type(dividend, divisor)
    if dtype not in (torch.int32, torch.int64):
        return
    overflows = torch.logical_and(
        torch.as_tensor(dividend).to(dtype) == torch.iinfo(dtype).min,
        torch.as_tensor(divisor).to(dtype) == -1,
    )
    _refuse_if(bool(overflows.any()), "the smallest integer divided by -1 overflows")


def _lcm(arguments: Arguments) -> None:
    """SIGFPE on some pairs with the smallest integer."""
    for name in ("self", "other"):
        numbers = arguments[name]
        if numbers.dtype in (torch.int32, torch.int64):
            smallest = torch.iinfo(numbers.dtype).min
            _refuse_if(bool((numbers == smallest).any()), f"{name} holds the smallest integer")


def _pdist(arguments: Arguments) -> str | None:
    """The backward pass of no rows: SIGSEGV or SIGFPE; where p is 0 it does not look at them."""
    rows, p = arguments["self"], arguments.get("p", 2)
    crashes = rows.dim() == 2 and rows.shape[0] == 0 < rows.shape[1] and p != 0
    return "the gradient of no rows is asked" if crashes else None


def _pdist_kernel(arguments: Arguments) -> str | None:
    """Other dimensions are left to the function to check: SIGSEGV, or foreign memory."""
    _refuse_if(arguments["self"].dim() != 2, "self must have 2 dimensions")
    return _pdist(arguments)


def _eig(arguments: Arguments) -> None:
    """Real matrices whose eigenvalues LAPACK does not find make the heap's next block corrupt.

    PyTorch takes what is there instead for pairs of complex numbers, and where the last one has no
    partner, it writes one more vector, before it raises LinAlgError. Only LAPACK can tell, so it is
    asked first, with a vector's room behind the last: that raises the same error.
    """
    matrix = arguments["self"].detach()
    if (
        matrix.dtype not in (torch.float32, torch.float64)
        or matrix.device.type != "cpu"
        or matrix.dim() < 2
        or matrix.shape[-1] != matrix.shape[-2]
        or not matrix.numel()
    ):
        return
    values = matrix.new_empty(matrix.shape[:-1], dtype=matrix.dtype.to_complex())
    room = values.new_empty(matrix.numel() + matrix.shape[-1])
    vectors = room[: matrix.numel()].view(matrix.shape).mT
    torch.linalg.eig(matrix, out=(values, vectors))


def _eigvals(arguments: Arguments) -> None:
    """As :func:`_eig`, whose vectors its gradient needs; without one LAPACK is given anything."""
    matrix = arguments["self"]
    if matrix.requires_grad and torch.is_grad_enabled():
        _eig(arguments)
    else:
        finite = torch.isfinite(matrix).all()
        _refuse_if(not finite, "the matrix holds NaN or infinity, of which LAPACK dies")


def _convolution(arguments: Arguments) -> str | None:
    """The input's gradient counts on from one stride to the next in 32 bits: SIGSEGV."""
    strides = _each(arguments.get("stride") or 1, max(0, arguments["weight"].dim() - 2))
    return "the strides are too large for a gradient" if math.prod(strides) >= MAX_SIZE else None


def _binary_cross_entropy(arguments: Arguments) -> None:
    """The exact overload reads losses of the input's shape, and writes those of both together."""
    read = arguments.get("self")  # PyTorch's public function, which has none, compares the shapes
    none_written = not arguments["target"].numel()
    _refuse_if(read is not None and read.numel() > 0 and none_written, "the target is empty")


def _grid_sample(arguments: Arguments) -> None:
    """Coordinates that are not finite index anywhere; kernels take any number for their modes."""
    for name in ("interpolation_mode", "padding_mode"):
        mode = arguments.get(name)
        in_range = not isinstance(mode, int) or 0 <= mode < ENUM_SIZE
        _refuse_if(not in_range, f"{name} must be 0, 1 or 2")
    if arguments.get("padding_mode", "zeros") in ("zeros", 0):
        return
    finite = torch.isfinite(arguments["grid"]).all()
    _refuse_if(not finite, "the grid holds NaN or infinity, which border and reflection cannot pad")


def _ctc_loss(arguments: Arguments) -> None:
    """Labels index the classes unchecked: foreign memory, heap corruption, SIGSEGV."""
    log_probs, targets = arguments["log_probs"], arguments["targets"]
    lengths = torch.as_tensor(arguments["target_lengths"], device=targets.device)
    if targets.dim() == 2 and lengths.numel() == targets.shape[0]:
        used = torch.arange(targets.shape[1], device=targets.device) < lengths.reshape(-1, 1)
        labels = targets[used]
    else:
        labels = targets.reshape(-1)[: max(0, int(lengths.sum()))]
    classes = log_probs.shape[-1] if log_probs.dim() else 0
    outside = bool(((labels < 0) | (labels >= classes)).any())
    _refuse_if(outside, f"targets must be from 0 to {classes - 1}, a class each")
    _refuse_if(bool((lengths < 0).any()), "target_lengths must not be negative")


def _embedding_bag(arguments: Arguments) -> None:
    """Bags that overlap, and indices in no bag, are foreign memory or SIGSEGV."""
    indices = arguments["input"] if "input" in arguments else arguments["indices"]
    if indices.is_floating_point():  # weight and input in the old order, which PyTorch still takes
        indices = arguments["weight"]
    offsets, last = arguments.get("offsets"), bool(arguments.get("include_last_offset"))
    if "input" not in arguments:  # an exact overload, which leaves it to the function to check
        flat = indices.dim() == 1 and offsets is not None and offsets.dim() == 1
        _refuse_if(not flat, "indices and offsets must have one dimension")
    no_bags = offsets is not None and offsets.numel() - last < 1
    if offsets is not None and offsets.dim() == 1:
        count = indices.numel()
        bounds = torch.cat([offsets, offsets.new_tensor([count])])
        _refuse_if(bool((bounds.diff() < 0).any()), "offsets must rise up to the number of indices")
        end = 0 if no_bags else count
        if last and len(offsets):
            end = int(offsets[-1])
        _refuse_if(end < count, f"the bags must hold all {count} indices, and end at {end}")
    if arguments.get("per_sample_weights") is None:
        return
    _refuse_if(
        no_bags or not indices.numel(), "per_sample_weights needs a bag that holds something"
    )


def _lu_unpack(arguments: Arguments) -> None:
    """Pivots are read for every row, however many there are: SIGSEGV."""
    factors, pivots = arguments["LU_data"], arguments["LU_pivots"]
    if factors.dim() >= 2 and arguments.get("unpack_pivots", True):
        shape = (*factors.shape[:-2], min(factors.shape[-2:]))
        _refuse_if(pivots.shape != shape, f"LU_pivots must have the shape {list(shape)}")


def _segment_reduce(arguments: Arguments) -> None:
    """Offsets and lengths are not held against the data: out of bounds."""
    data = arguments["data"]
    for name in ("offsets", "lengths"):
        bounds = arguments.get(name)
        if bounds is None or not bounds.dim() or bounds.dim() > data.dim():
            continue
        axis = bounds.dim() - 1
        around = bounds.shape[:-1] == data.shape[:axis]
        _refuse_if(not around, f"{name} must have the data's shape before the axis")
        if bounds.numel() == 0:
            continue
        inside = bool(bounds.min() >= 0) and bool(bounds.max() <= data.shape[axis])
        _refuse_if(not inside, f"{name} must be from 0 to {data.shape[axis]}")
        if name == "offsets":
            rising = bool((bounds.diff(dim=-1) >= 0).all())
            _refuse_if(not rising, "offsets must not fall")


def _lowrank(arguments: Arguments) -> None:
    """Every iteration is kept for the backward pass: the process runs out of memory and aborts."""
    niter = arguments.get("niter")
    too_many = niter is not None and niter > MAX_POWER_ITERATIONS
    _refuse_if(too_many, f"niter must be at most {MAX_POWER_ITERATIONS}")


def _matrix_power(arguments: Arguments) -> None:
    """Its negation overflows: hangs."""
    _refuse_if(arguments["n"] == -(2**63), "n must be greater than the smallest integer")


def _combinations(arguments: Arguments) -> None:
    """Makes a grid of r dimensions before it looks whether there can be one: hangs."""
    _refuse_if(arguments.get("r", 2) > MAX_DIMENSIONS, f"r must be at most {MAX_DIMENSIONS}")


def _split(arguments: Arguments) -> None:
    """Makes as many empty pieces as asked for: hangs."""
    tensor = arguments["self"] if "self" in arguments else arguments["tensor"]
    dim = arguments.get("dim", 0)
    if not -tensor.dim() <= dim < tensor.dim():
        return
    length = tensor.shape[dim]
    pieces = arguments.get("sections", 0)
    if length == 0:
        pieces = arguments.get("chunks", pieces)
    size = arguments.get("split_size")
    if isinstance(size, int) and size > 0:
        pieces = length // size
    _refuse_if(pieces > MAX_OUTPUTS, f"there would be {pieces} outputs, more than {MAX_OUTPUTS}")


def _unbind(arguments: Arguments) -> None:
    """As :func:`_split`: a tensor without elements can still have a long dimension."""
    tensor, dim = arguments["self"], arguments.get("dim", 0)
    many = -tensor.dim() <= dim < tensor.dim() and tensor.shape[dim] > MAX_OUTPUTS
    _refuse_if(many, f"there would be more than {MAX_OUTPUTS} outputs")


def _max_pool1d(arguments: Arguments) -> str | None:
    """As :func:`_max_pool`, and sizes overflow: SIGSEGV, or hangs."""
    names = "kernel_size", "stride", "dilation"
    sizes = [size for name in names for size in _listed(arguments.get(name) or 1)]
    _refuse_if(max(sizes) >= MAX_SIZE, f"{', '.join(names)} must be less than {MAX_SIZE}")
    return _max_pool(1, arguments)


def _max_pool(dims: int, arguments: Arguments) -> str | None:
    """The gradient of a window that sees nothing but padding is written beyond the input."""
    tensor = _input_of(arguments)
    kernels = _each(arguments["kernel_size"], dims)
    strides = _each(arguments.get("stride") or arguments["kernel_size"], dims)
    paddings = _each(arguments.get("padding") or 0, dims)
    dilations = _each(arguments.get("dilation") or 1, dims)
    ceil = bool(arguments.get("ceil_mode"))
    windows = zip(tensor.shape[-dims:], kernels, strides, paddings, dilations, strict=False)
    if tensor.numel() and any(_is_blind(*window, ceil) for window in windows):
        return "a window sees nothing but padding"
    return None


def _is_blind(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> bool:
    """Return whether a window's first place that is not before the input lies behind it."""
    if stride < 1 or dilation <= size:
        return False
    extent = size + 2 * padding - dilation * (kernel - 1) - 1 + (stride - 1 if ceil else 0)
    starts = range(-padding, min(0, (extent // stride + 1) * stride - padding), stride)
    return len(starts) > MAX_OUTPUTS or any(start % dilation >= size for start in starts)


def _fractional_max_pool(arguments: Arguments) -> None:
    """Windows that begin outside: hangs, or reads out of bounds."""
    smallest = min(_listed(arguments["kernel_size"]), default=1)
    _refuse_if(smallest < 1, "kernel_size must be positive")
    samples = arguments.get("_random_samples", arguments.get("random_samples"))
    if isinstance(samples, Tensor):
        # A window begins at int((i + s) * a) - int(s * a), a >= 1: inside for any s whose product
        # with the input's size an int can hold; NaN and what is larger make it foreign memory.
        inside = bool((samples.abs() <= MAX_RANDOM_SAMPLE).all())
        _refuse_if(not inside, f"random samples must be within +-{MAX_RANDOM_SAMPLE}")


def _margin_loss(arguments: Arguments) -> None:
    """The mean and the sum over no samples are uninitialised memory."""
    reduced = arguments.get("reduction", "mean") not in ("none", 0)
    if arguments.get("reduce") is not None or arguments.get("size_average") is not None:
        reduced = arguments.get("reduce") is not False  # the two old flags go first
    _refuse_if(reduced and not arguments["target"].numel(), "the batch is empty")


def _batch_norm_kernel(arguments: Arguments) -> None:
    """Weights and statistics are read for every channel, whether they are there or not."""
    samples = arguments["input"]
    channels = samples.shape[1:2]
    if 0 in samples.shape[:2] and not arguments.get("training"):  # backward divides by it: SIGFPE
        tensors = (arguments.get(name) for name in ("input", "weight", "bias"))
        tracked = any(tensor is not None and tensor.requires_grad for tensor in tensors)
        _refuse_if(tracked, "the gradient of no samples or no channels is asked")
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = arguments.get(name)
        fits = tensor is None or tensor.shape == channels
        _refuse_if(not fits, f"{name} must have the shape {list(channels)}")
    given = all(arguments.get(name) is not None for name in ("running_mean", "running_var"))
    _refuse_if(arguments.get("training") is False and not given, "there are no running statistics")


def _attention_kernel(arguments: Arguments) -> None:
    """The shapes of query, key, value and mask are not held against each other."""
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    fit = (
        query.dim() == key.dim() == value.dim() == 4
        and query.shape[:2] == key.shape[:2] == value.shape[:2]
        and key.shape[2] == value.shape[2]
        and query.shape[3] == key.shape[3] == value.shape[3]
    )
    _refuse_if(not fit, "query, key and value must have four dimensions that fit each other")
    _refuse_if(0 in (*query.shape[1:3], key.shape[2]), "heads and lengths must not be 0")
    mask = arguments.get("attn_mask")
    if mask is not None:
        whole = (*query.shape[:3], key.shape[2])
        pairs = zip(reversed(mask.shape), reversed(whole), strict=False)
        fits = mask.dim() in (2, 4) and all(size in (1, full) for size, full in pairs)
        _refuse_if(not fits, f"attn_mask must broadcast to {list(whole)}")


def _grouped_attention(arguments: Arguments) -> None:
    """Heads are divided by those of key and value: SIGFPE."""
    grouped = [arguments[name] for name in ("key", "value")] if arguments["enable_gqa"] else []
    none = any(tensor.dim() >= 3 and tensor.shape[-3] == 0 for tensor in grouped)
    _refuse_if(none, "key and value must have heads")


def _fft_kernel(arguments: Arguments) -> None:
    """Dimensions, sizes and numbers for the norm are not checked: aborts, and writes beyond."""
    tensor, dims = arguments["self"], arguments["dim"]
    fit = dims and len(set(dims)) == len(dims) and all(0 <= dim < tensor.dim() for dim in dims)
    _refuse_if(not fit, "dim must name dimensions from 0 on, each once")
    _refuse_if(not 0 <= arguments["normalization"] < ENUM_SIZE, "normalization must be 0, 1 or 2")
    size = arguments.get("last_dim_size")
    fits = size is None or (size > 0 and size // 2 + 1 == tensor.shape[dims[-1]])
    _refuse_if(not fits, "last_dim_size does not fit")


def _recurrent(gates: int, arguments: Arguments) -> None:
    """Weights and states of other shapes than the layers' are read all the same."""
    states = arguments["hx"] if gates == LSTM_GATES else [arguments["hx"]]
    if gates == LSTM_GATES and len(states) != 2:
        return  # PyTorch says so itself
    tensor, params = arguments["input"], arguments["params"]
    directions = 1 + arguments["bidirectional"]
    layers = arguments["num_layers"] * directions
    _refuse_if(tensor.dim() != 3 or any(state.dim() != 3 for state in states), "3 dimensions each")
    batch = tensor.shape[0 if arguments["batch_first"] else 1]
    # By these two sizes the kernel tells an LSTM that projects its outputs from one that does not.
    output, hidden = states[0].shape[2], states[-1].shape[2]
    rows = gates * hidden
    expected: list[tuple[int, ...]] = []
    for layer in range(max(0, min(layers, len(params)))):
        inputs = tensor.shape[2] if layer < directions else output * directions
        expected += [(rows, inputs), (rows, output)]
        expected += [(rows,), (rows,)] if arguments["has_biases"] else []
        expected += [(output, hidden)] if output != hidden else []
    fit = expected == [tuple(param.shape) for param in params]
    _refuse_if(not fit or not params, "params must have the shapes of the layers' weights")
    fits = all(state.shape[:2] == (layers, batch) for state in states)
    _refuse_if(not fits, f"hx must begin with the sizes {[layers, batch]}")


def _upsample_kernel(arguments: Arguments) -> None:
    """An infinite scale times the first coordinate, 0, is NaN, which becomes an index."""
    scales = [arguments.get(name) for name in ("scales", "scales_d", "scales_h", "scales_w")]
    least, most = SCALES
    fit = all(scale is None or least <= scale <= most for scale in scales)
    _refuse_if(not fit, f"scales must be from {least} to {most}")


def _antialiased(taps: int, arguments: Arguments) -> None:
    """Of outputs that lie behind the input, what is read there is multiplied by 0: foreign memory.

    The first tap of an output stands as in HelperInterpBase of PyTorch's UpSampleKernel.cpp.
    """
    _upsample_kernel(arguments)
    if "scale_factors" in arguments or arguments["align_corners"]:
        return  # the scale is that of the sizes
    scales = arguments.get("scales_h"), arguments.get("scales_w")
    sizes = zip(arguments["self"].shape[-2:], arguments["output_size"], scales, strict=False)
    for size, outputs, scale in sizes:
        if scale is not None:
            first = (outputs - 0.5) / scale - taps / 2 * max(1 / scale, 1) + 0.5
            behind = first >= size * (1 - ROUNDING)
            _refuse_if(behind, f"with a scale of {scale}, {size} do not reach for {outputs}")


def _padding(arguments: Arguments) -> str | None:
    """Sizes overflow."""
    pads = _listed(arguments["pad"] if "pad" in arguments else arguments["padding"])
    too_much = any(abs(pad) > MAX_SIZE for pad in pads)
    _refuse_if(too_much, f"padding must be from -{MAX_SIZE} to {MAX_SIZE}")
    if arguments.get("mode") == "circular":
        _wrapping(arguments)
    if arguments.get("mode") == "reflect" and len(pads) == 6:
        return _nothing_left(arguments, pads)
    return None


def _reflection(arguments: Arguments) -> str | None:
    """As :func:`_padding`, and of an empty reflection the gradient is never written."""
    _padding(arguments)
    return _nothing_left(arguments, arguments["padding"])


def _nothing_left(arguments: Arguments, pads: Sequence[int]) -> str | None:
    sides = zip(reversed(_input_of(arguments).shape), pads[::2], pads[1::2], strict=False)
    is_left = all(size + before + after for size, before, after in sides)
    return None if is_left else "the gradient of nothing is asked"


def _circular(arguments: Arguments) -> None:
    _padding(arguments)
    _wrapping(arguments)


def _wrapping(arguments: Arguments) -> None:
    """What is cropped away first cannot be wrapped around."""
    pads = arguments["pad"]
    if min(pads, default=0) >= 0:
        return
    sides = zip(pads[::2], pads[1::2], strict=False)
    for size, (before, after) in zip(reversed(_input_of(arguments).shape), sides, strict=False):
        left = size + min(before, 0) + min(after, 0)
        _refuse_if(max(before, after) > left, f"only {left} of {size} are left to be repeated")


def _weight_norm(arguments: Arguments) -> None:
    """The backward pass trusts the shape of g: foreign memory."""
    v, g, dim = arguments["v"], arguments["g"], arguments.get("dim", 0)
    norms = [size if axis == dim else 1 for axis, size in enumerate(v.shape)]
    fits = list(g.shape) == norms or (dim == -1 and g.numel() == 1)
    _refuse_if(not fits, f"g must have the shape {norms}")


def _range(arguments: Arguments) -> None:
    """As :func:`_arange`, and a step that is 0 once it is an integer: SIGFPE."""
    dtype, step = arguments.get("dtype"), arguments.get("step", 1)
    integral = dtype is not None and not dtype.is_floating_point and not dtype.is_complex
    _refuse_if(integral and abs(step) < 1, "step is 0 in an integer dtype")
    _arange(arguments)


def _arange(arguments: Arguments) -> None:
    """The way from start to end is the smallest integer, divided by -1: SIGFPE."""
    start, end = arguments.get("start", 0), arguments["end"]
    if arguments.get("step") == -1 and not isinstance(start, complex):
        too_far = not isinstance(end, complex) and end - start <= -(2**63)
        _refuse_if(too_far, "from start to end is too far")


def _polynomial(arguments: Arguments) -> None:
    """Kernels that stop at a NaN return what they have, which before the first step is nothing."""
    at, degree = (torch.as_tensor(arguments[name]) for name in ("x", "n"))
    bad = torch.logical_and(torch.isnan(at), degree >= 2)
    _refuse_if(bool(bad.any()), "a polynomial of degree 2 or more is asked at NaN")


def _group_norm_kernel(arguments: Arguments) -> None:
    """Sizes whose product is that of the input by overflow, or of which N is 0: SIGSEGV backward.

    From PyTorch 2.14 on a result with N 0 is foreign memory.
    """
    sizes = [arguments[name] for name in ("N", "C", "HxW")]
    numel = math.prod(sizes)
    trusted = sizes[0] == 0 or abs(numel) >= 2**63
    _refuse_if(
        trusted and numel != arguments["input"].numel(), "the input is not of N * C * HxW elements"
    )


def _unfold(arguments: Arguments) -> None:
    """The sizes of blocks overflow, and the result has a negative one."""
    for name in ("kernel_size", "dilation", "padding", "stride"):
        sizes = _listed(arguments.get(name) or 0)
        _refuse_if(max(map(abs, sizes)) > MAX_SIZE, f"{name} must be at most {MAX_SIZE}")


def _neg_view(arguments: Arguments) -> None:
    """A bool that is to be negated when it is read, which nothing can do."""
    _refuse_if(arguments["self"].dtype == torch.bool, "bool has no negative")


@dataclass(frozen=True)
class Row:
    """Kernels, and what is refused of them."""

    kernels: str
    """Their names, as words."""
    guard: Guard
    when: str | None = None
    """The parameter that must be given for the guard to matter."""


ROWS = (
    Row("div divide", _div, when="rounding_mode"),
    Row("lcm", _lcm),
    Row("pdist", _pdist),
    Row("_pdist_forward", _pdist_kernel),
    Row("linalg_eig", _eig),
    Row("linalg_eigvals", _eigvals),
    Row("conv1d conv2d conv3d convolution _convolution", _convolution, when="stride"),
    Row("binary_cross_entropy", _binary_cross_entropy),
    Row("grid_sample grid_sampler grid_sampler_2d grid_sampler_3d", _grid_sample),
    Row("ctc_loss", _ctc_loss),
    Row("embedding_bag _embedding_bag _embedding_bag_forward_only", _embedding_bag),
    Row("lu_unpack", _lu_unpack),
    Row("segment_reduce", _segment_reduce),
    Row("svd_lowrank pca_lowrank", _lowrank, when="niter"),
    Row("matrix_power linalg_matrix_power", _matrix_power),
    Row("combinations", _combinations, when="r"),
    Row("chunk unsafe_chunk tensor_split split unsafe_split split_copy", _split),
    Row("unbind unbind_copy", _unbind),
    Row("max_pool1d max_pool1d_with_indices", _max_pool1d),
    Row("max_pool2d max_pool2d_with_indices", partial(_max_pool, 2), when="dilation"),
    Row("max_pool3d max_pool3d_with_indices", partial(_max_pool, 3), when="dilation"),
    Row(
        "fractional_max_pool2d fractional_max_pool2d_with_indices "
        "fractional_max_pool3d fractional_max_pool3d_with_indices",
        _fractional_max_pool,
    ),
    Row(
        "pad constant_pad_nd replication_pad1d replication_pad2d replication_pad3d "
        "reflection_pad1d reflection_pad2d",
        _padding,
    ),
    Row("reflection_pad3d", _reflection),
    Row("_pad_circular", _circular),
    Row("_weight_norm", _weight_norm),
    Row("range", _range, when="step"),
    Row("arange", _arange, when="step"),
    Row("_neg_view", _neg_view),
    Row(
        "special_chebyshev_polynomial_t special_chebyshev_polynomial_u "
        "special_chebyshev_polynomial_v special_chebyshev_polynomial_w "
        "special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u "
        "special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w "
        "special_hermite_polynomial_h special_hermite_polynomial_he "
        "special_laguerre_polynomial_l special_legendre_polynomial_p",
        _polynomial,
    ),
    Row("native_group_norm", _group_norm_kernel),
    Row("unfold im2col", _unfold),
    Row("multi_margin_loss multilabel_margin_loss multilabel_margin_loss_forward", _margin_loss),
    Row(
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional "
        "_native_batch_norm_legit_no_training",
        _batch_norm_kernel,
    ),
    Row("_scaled_dot_product_flash_attention_for_cpu", _attention_kernel),
    Row(
        "scaled_dot_product_attention _scaled_dot_product_attention_math",
        _grouped_attention,
        when="enable_gqa",
    ),
    Row("_fft_c2c _fft_c2r _fft_r2c", _fft_kernel),
    Row("lstm", partial(_recurrent, LSTM_GATES)),
    Row("gru", partial(_recurrent, GRU_GATES)),
    Row("rnn_tanh rnn_relu", partial(_recurrent, 1)),
    Row(
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d "
        "upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d",
        _upsample_kernel,
    ),
    Row("_upsample_bilinear2d_aa", partial(_antialiased, 2)),
    Row("_upsample_bicubic2d_aa", partial(_antialiased, 4)),
)

_BY_KERNEL: Mapping[str, Row] = {kernel: row for row in ROWS for kernel in row.kernels.split()}


def guard_of(kernel: str, given: Arguments) -> Guard | None:
    """Return the guard of a call, None where it needs none.

    Args:
        kernel: the op's base name.
        given: the call's arguments by name, with holes for tensors.
    """
    row = _BY_KERNEL.get(kernel)
    if row is None or (row.when is not None and given.get(row.when) is None):
        return None
    return row.guard


REFUSED = "gradtrace_refused"
"""The mark of the node of autograd's graph whose backward pass was refused."""


def refuse_backward(result: Tensor | Sequence[Tensor], reason: str) -> None:
    """Have the call that returned ``result`` refused where autograd comes to it."""
    function: Any = (result if isinstance(result, Tensor) else result[0]).grad_fn
    if function is None:
        return
    marks = function.metadata

    def refuse(_: object) -> NoReturn:
        marks[REFUSED] = True
        raise _refusal(reason)

    function.register_prehook(refuse)


def is_refused_backward(result: Tensor) -> bool:
    """Return whether autograd came to the call that returned ``result``, and it was refused."""
    function: Any = result.grad_fn
    return function is not None and REFUSED in function.metadata
