"""What of torch's op database is not reproduced, and why. The suite keeps this list true."""

from __future__ import annotations

from collections.abc import Mapping

NOT_EXPRESSIBLE: Mapping[str, str] = {
    "sparse.sampled_addmm": "takes a sparse tensor, which no leaf can be",
    "sparse.mm/reduce": "takes a sparse tensor, which no leaf can be",
    "to_sparse": "returns a sparse tensor, which no answer can carry",
    "chalf": "returns complex32, which no answer can carry",
    "zero_": "works in place",
    "_softmax_backward_data": "a private kernel of a backward pass",
    "max_pool2d_with_indices_backward": "a private kernel of a backward pass",
    "native_dropout_backward": "a private kernel of a backward pass",
    "_batch_norm_with_update": "a private kernel that writes the running statistics",
    "_unsafe_masked_index": "a private kernel that trusts its indices",
    "_unsafe_masked_index_put_accumulate": "a private kernel that trusts its indices",
}
"""Ops of which no sample can be asked for."""

PARTLY: Mapping[str, str] = {
    "_segment_reduce/lengths": "samples with unsafe=True, which skips the check of the lengths",
    "_segment_reduce/offsets": "samples with unsafe=True, which skips the check of the offsets",
}
"""Ops of which some samples cannot be asked for."""

ROUNDED: Mapping[str, str] = {
    "nn.functional.linear_cross_entropy/chunked": (
        "its options choose a chunked algorithm for the same loss, and no request can say them"
    ),
    "nn.functional.linear_cross_entropy/chunked_none": (
        "its options choose a chunked algorithm for the same loss, and no request can say them"
    ),
}
"""Ops that agree within rounding only."""

UNSTEADY: Mapping[str, str] = {
    "linalg.lstsq": "LAPACK's answer depends on where its arguments lie in memory",
    "linalg.lstsq/grad_oriented": "LAPACK's answer depends on where its arguments lie in memory",
}
"""Ops that PyTorch itself does not repeat bit for bit; they agree within rounding at least."""
