"""Kernels behind documented functions of another name, as exact overloads name them.

`torch.export` prints `aten.cross_entropy_loss.default` where a model calls
`nn.functional.cross_entropy`, and after decompositions `aten._softmax.default` for `softmax`. Such
kernels may stand in a request although no function is documented by their own name; everything
else that the gate asks holds for them too. A kernel that trusts its arguments without a check has a
guard (:mod:`service.engine.guards`) or is left out; so is one that returns memory which it never
wrote, as `_ctc_loss` does behind the lengths.
"""

from __future__ import annotations

from collections.abc import Mapping

KERNELS: Mapping[str, str] = {
    # Python's operators
    "__and__": "bitwise_and",
    "__or__": "bitwise_or",
    "__xor__": "bitwise_xor",
    "__lshift__": "bitwise_left_shift",
    "__rshift__": "bitwise_right_shift",
    "index": "getitem",
    "_unsafe_index": "getitem",
    "numpy_T": "T",
    "matrix_H": "H",
    # views and copies
    "alias": "view_as",
    "lift_fresh_copy": "clone",
    "copy": "broadcast_to",
    "_to_copy": "to",
    "_conj": "conj",
    "_conj_physical": "conj_physical",
    "_neg_view": "neg",
    "_unsafe_view": "reshape",
    "_reshape_copy": "reshape",
    # linear layers and convolutions
    "_trilinear": "nn.functional.bilinear",
    "_convolution": "conv2d",
    "convolution": "conv2d",
    "im2col": "nn.functional.unfold",
    "col2im": "nn.functional.fold",
    "_weight_norm": "norm",
    # normalisation
    "_native_batch_norm_legit": "nn.functional.batch_norm",
    "_native_batch_norm_legit_functional": "nn.functional.batch_norm",
    "_native_batch_norm_legit_no_training": "nn.functional.batch_norm",
    # activations
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "log_sigmoid_forward": "nn.functional.logsigmoid",
    "_prelu_kernel": "prelu",
    "rrelu_with_noise_functional": "rrelu",
    # attention
    "_scaled_dot_product_flash_attention_for_cpu": "nn.functional.scaled_dot_product_attention",
    "_scaled_dot_product_attention_math": "nn.functional.scaled_dot_product_attention",
    # pooling, padding, sampling
    "_adaptive_avg_pool2d": "nn.functional.adaptive_avg_pool2d",
    "_adaptive_avg_pool3d": "nn.functional.adaptive_avg_pool3d",
    "reflection_pad1d": "nn.functional.pad",
    "reflection_pad2d": "nn.functional.pad",
    "reflection_pad3d": "nn.functional.pad",
    "replication_pad1d": "nn.functional.pad",
    "replication_pad2d": "nn.functional.pad",
    "replication_pad3d": "nn.functional.pad",
    "_pad_circular": "nn.functional.pad",
    "affine_grid_generator": "nn.functional.affine_grid",
    "grid_sampler": "nn.functional.grid_sample",
    "grid_sampler_2d": "nn.functional.grid_sample",
    "grid_sampler_3d": "nn.functional.grid_sample",
    "upsample_nearest1d": "nn.functional.interpolate",
    "upsample_nearest2d": "nn.functional.interpolate",
    "upsample_nearest3d": "nn.functional.interpolate",
    "_upsample_nearest_exact1d": "nn.functional.interpolate",
    "_upsample_nearest_exact2d": "nn.functional.interpolate",
    "_upsample_nearest_exact3d": "nn.functional.interpolate",
    "upsample_linear1d": "nn.functional.interpolate",
    "upsample_bilinear2d": "nn.functional.interpolate",
    "upsample_bicubic2d": "nn.functional.interpolate",
    "upsample_trilinear3d": "nn.functional.interpolate",
    "_upsample_bilinear2d_aa": "nn.functional.interpolate",
    "_upsample_bicubic2d_aa": "nn.functional.interpolate",
    # losses
    "cross_entropy_loss": "nn.functional.cross_entropy",
    "nll_loss_nd": "nn.functional.nll_loss",
    "nll_loss2d": "nn.functional.nll_loss",
    "nll_loss_forward": "nn.functional.nll_loss",
    "nll_loss2d_forward": "nn.functional.nll_loss",
    "multilabel_margin_loss_forward": "nn.functional.multilabel_margin_loss",
    "_pdist_forward": "pdist",
    "_euclidean_dist": "cdist",
    # linear algebra
    "_linalg_det": "linalg.det",
    "_linalg_eigh": "linalg.eigh",
    "_linalg_slogdet": "linalg.slogdet",
    "_linalg_solve_ex": "linalg.solve",
    "_linalg_svd": "linalg.svd",
    # transforms
    "_fft_c2c": "fft.fftn",
    "_fft_c2r": "fft.irfftn",
    "_fft_r2c": "fft.rfftn",
    # embedding and uniqueness
    "_embedding_bag": "nn.functional.embedding_bag",
    "_embedding_bag_forward_only": "nn.functional.embedding_bag",
    "_unique2": "unique",
    "unique_dim": "unique",
    "nonzero_numpy": "nonzero",
}

LAYERS: Mapping[str, str] = {
    "lstm.input": "LSTM",
    "gru.input": "GRU",
    "rnn_tanh.input": "RNN",
    "rnn_relu.input": "RNN",
    "lstm_cell.default": "LSTMCell",
    "gru_cell.default": "GRUCell",
    "rnn_tanh_cell.default": "RNNCell",
    "rnn_relu_cell.default": "RNNCell",
}
"""Exact overloads behind layers of ``torch.nn`` for which there is no documented function."""
