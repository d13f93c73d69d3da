"""Mixer blocks computed in few passes over memory: TensorFlow on a CPU.

Between its matrix products a block only moves memory: norms, GELU, transposes,
sums. Written as layers, each of these is a pass of its own, and the backward pass
reads back what the forward pass had to keep. Here a block has four products in the
forward pass and eight in the backward pass, done by TensorFlow's own kernels
(oneDNN, with bfloat16 operands where the processor multiplies them faster), and
one XLA program between each two of them. GELU and norms are computed again in the
backward pass instead of kept. What is computed stays the same: `layers.MixerBlock`
is the definition, a test holds values and gradients equal to it.
"""

import tensorflow as tf

from mixer_tf import stages

_SQRT_2_OVER_PI = 0.7978845608028654
_one_pass = tf.function(jit_compile=True)


def fuse_blocks(model, products="float32"):
    """Let every block of a Mixer be trained in few passes.

    Weights, names and saved files stay as they are. Outside of training the blocks
    compute in float32 whatever `products` says.

    Args:
        model: a Mixer, built under the float32 policy, not yet compiled.
        products: what matrix products in training round their operands and results
            to, `"float32"` or `"bfloat16"`; the sums within a product, everything
            between them, and the weights that the optimizer sees are float32.

    Raises:
        ValueError: the model has a part that is not written here, see `why_not`.
    """
    reason = why_not(model)
    if reason:
        raise ValueError(f"These blocks cannot be fused: {reason}; train the model as it is.")
    dtype = tf.as_dtype(products)
    stem = model.get_layer("stem")
    stem.call = _fused_stem(stem)
    for block in stages.blocks(model):
        block.call = _fused_call(block, dtype)
    for layer in model.layers:
        if layer.name == "pre_head_layer_norm":
            layer.call = _fused_norm(layer)


def why_not(model):
    """What keeps the blocks of a model from being fused, `""` for nothing."""
    try:
        config = stages.config_of(model)
    except ValueError as error:
        return str(error)
    policies = {layer.compute_dtype for layer in stages.blocks(model)}
    if policies != {"float32"}:
        return f"its policy computes in {', '.join(policies)}"
    return why_not_config(config)


def why_not_config(config):
    """The same of a `MixerConfig`, before a model is built."""
    if config.dropout:
        return f"dropout is {config.dropout}, it would need its masks kept"
    if config.activation != "gelu_tanh":
        return f"the activation is {config.activation!r}, not gelu_tanh"
    return ""


def _fused_stem(stem):
    """The stem as one product, in float32: patches do not overlap, each pixel is used once."""
    height, width = stem.kernel_size

    def call(images):
        rows, columns = images.shape[1] // height, images.shape[2] // width
        patches = tf.reshape(images, [-1, rows, height, columns, width, images.shape[3]])
        patches = tf.transpose(patches, [0, 1, 3, 2, 4, 5])  # [B, h, w, height, width, 3]
        size = height * width * images.shape[3]
        patches = tf.reshape(patches, [-1, rows * columns, size])

        @tf.custom_gradient
        def project(kernel, bias):
            tokens = _product(patches, tf.reshape(kernel, [size, -1])) + bias

            def backward(d):
                d_kernel = _kernel_gradient(patches, d)
                return tf.reshape(d_kernel, kernel.shape), _sum_rows(d)

            return tokens, backward

        weights = (tf.convert_to_tensor(v.value) for v in (stem.kernel, stem.bias))
        tokens = project(*weights)
        return tf.reshape(tokens, [-1, rows, columns, stem.filters])  # [B, h, w, C]

    return call


def _fused_norm(norm):
    """A LayerNormalization in one pass. Its weights are arguments: a step may bring its own."""

    def call(x):
        weights = (tf.convert_to_tensor(v.value) for v in (norm.gamma, norm.beta))
        return _norm(x, *weights, norm.epsilon)

    return call


def _fused_call(block, products):
    branches = [
        (block.layer_norm_0, block.token_mixing),
        (block.layer_norm_1, block.channel_mixing),
    ]

    def call(x, training=None):
        weights = []
        for norm, mlp in branches:
            for layer in (norm, mlp.dense_0, mlp.dense_1):
                weights += [tf.convert_to_tensor(v.value) for v in layer.variables]
        keep = tf.ones_like(x[:, :1, :1])  # [B, 1, 1]: what stochastic depth leaves of a branch
        keeps = [block.skip(keep, training=training) for _ in branches]
        dtype = products if training else tf.float32
        return _block(x, keeps, weights, block.epsilon, dtype)

    return call


def _block(x, keeps, weights, epsilon, dtype):
    """`MixerBlock.call` with its own backward pass, `[B, S, C] -> [B, S, C]`."""

    @tf.custom_gradient
    def block(x, gain_0, shift_0, k0, c0, k1, c1, gain_1, shift_1, k2, c2, k3, c3):
        low = [tf.cast(k, dtype) for k in (k0, k1, k2, k3)]
        y = _norm_transposed(x, gain_0, shift_0, epsilon, dtype)  # [B, S, C] -> [B, C, S]
        hidden_0 = _product(y, low[0])  # [B, C, S] -> [B, C, D_S]
        y = _product(_bias_gelu(hidden_0, c0), low[1])  # -> [B, C, S]
        middle, y = _add_and_norm(x, y, c1, keeps[0], gain_1, shift_1, epsilon)  # [B, S, C]
        hidden_1 = _product(y, low[2])  # [B, S, C] -> [B, S, D_C]
        y = _product(_bias_gelu(hidden_1, c2), low[3])  # -> [B, S, C]
        out = _add(middle, y, c3, keeps[1])

        def backward(d_out):
            d = _into_branch(d_out, keeps[1], dtype)  # [B, S, C]
            d_c3 = _sum_rows(d)
            a, dh = _bias_gelu_backward(hidden_1, c2, _product_backward(d, low[3]))
            d_k3, d_c2 = _kernel_gradient(a, d), _sum_rows(dh)
            dy = _product_backward(dh, low[2])  # [B, S, C]
            d_middle, d, y, scaled = _norm_backward(
                middle, gain_1, shift_1, dy, d_out, keeps[0], epsilon
            )
            d_k2, d_gain_1, d_shift_1 = _kernel_gradient(y, dh), _sum_rows(scaled), _sum_rows(dy)
            d_c1 = _sum_rows(d)  # d: [B, C, S]
            a, dh = _bias_gelu_backward(hidden_0, c0, _product_backward(d, low[1]))
            d_k1, d_c0 = _kernel_gradient(a, d), _sum_rows(dh)
            dy = _product_backward(dh, low[0])  # [B, C, S]
            d_x, y, scaled = _norm_transposed_backward(x, gain_0, shift_0, dy, d_middle, epsilon)
            d_k0, d_gain_0, d_shift_0 = (
                _kernel_gradient(y, dh),
                _sum_rows(scaled),
                _sum_tokens(dy),
            )
            first = (d_gain_0, d_shift_0, d_k0, d_c0, d_k1, d_c1)
            return (d_x, *first, d_gain_1, d_shift_1, d_k2, d_c2, d_k3, d_c3)

        return out, backward

    return block(x, *weights)


# The products. Their operands have the type `dtype` above, so have their results.


def _product(x, kernel):
    """`[B, N, width] -> [B, N, units]`."""
    rows = tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel)
    return tf.reshape(rows, [-1, x.shape[1], kernel.shape[1]])


def _product_backward(d, kernel):
    """`[B, N, units] -> [B, N, width]`."""
    rows = tf.matmul(tf.reshape(d, [-1, kernel.shape[1]]), kernel, transpose_b=True)
    return tf.reshape(rows, [-1, d.shape[1], kernel.shape[0]])


def _kernel_gradient(x, d):
    """`[B, N, width], [B, N, units] -> [width, units]` float32."""
    x, d = tf.reshape(x, [-1, x.shape[-1]]), tf.reshape(d, [-1, d.shape[-1]])
    return tf.cast(tf.matmul(x, d, transpose_a=True), tf.float32)


def _sum_rows(d):
    """`[B, N, width] -> [width]`; as a product, which is faster here than a reduction."""
    d = tf.reshape(d, [-1, d.shape[-1]])
    return tf.cast(tf.matmul(tf.ones([1, tf.shape(d)[0]], d.dtype), d), tf.float32)[0]


def _sum_tokens(d):
    """`[B, C, S] -> [C]`."""
    sums = tf.matmul(tf.reshape(d, [-1, d.shape[2]]), tf.ones([d.shape[2], 1], d.dtype))
    return _sum_rows(tf.reshape(sums, [-1, 1, d.shape[1]]))


# What lies between two products, one pass each.


def _normalize(x, epsilon):
    """Mean 0 and variance 1 over the channels, and the factor that made it so."""
    centred = x - _mean(x)
    scale = tf.math.rsqrt(_mean(centred * centred) + epsilon)
    return centred * scale, scale


def _mean(x):
    """Over the channels, `[B, S, C] -> [B, S, 1]`; a product, twice as fast as XLA's reduction."""
    return tf.matmul(x, tf.fill([x.shape[-1], 1], 1 / x.shape[-1]))


def _normalize_backward(x, gain, dy, epsilon):
    """Gradient of `gain * normalized + shift` for x; dy * normalized, whose sum is gain's; and
    what x was normalized to."""
    normalized, scale = _normalize(x, epsilon)
    d = dy * gain
    d -= _mean(d) + normalized * _mean(d * normalized)
    return scale * d, dy * normalized, normalized


def _gelu(x):
    """GELU (tanh form) and its derivative."""
    tanh = tf.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))
    inner = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x)
    return 0.5 * x * (1 + tanh), 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * inner


def _swap(x):
    return tf.transpose(x, [0, 2, 1])


def _float(x):
    return tf.cast(x, tf.float32)


def _rounded(x, dtype):
    """A float32 number as the nearest of `dtype`.

    For bfloat16 by an addition and a shift, a third faster here than the cast: numbers halfway
    go away from 0, not to the even one.
    """
    if dtype != tf.bfloat16:
        return tf.cast(x, dtype)
    bits = tf.bitcast(x, tf.uint32) + tf.constant(0x8000, tf.uint32)
    upper = tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32))
    return tf.bitcast(tf.cast(upper, tf.uint16), tf.bfloat16)


@_one_pass
def _norm(x, gain, shift, epsilon):
    return _normalize(x, epsilon)[0] * gain + shift


@_one_pass
def _norm_transposed(x, gain, shift, epsilon, dtype):
    return _swap(_rounded(_normalize(x, epsilon)[0] * gain + shift, dtype))


@_one_pass
def _bias_gelu(hidden, bias):
    return _rounded(_gelu(_float(hidden) + bias)[0], hidden.dtype)


@_one_pass
def _add_and_norm(x, y, bias, keep, gain, shift, epsilon):
    x += keep * _swap(_float(y) + bias)
    return x, _rounded(_normalize(x, epsilon)[0] * gain + shift, y.dtype)


@_one_pass
def _add(x, y, bias, keep):
    return x + keep * (_float(y) + bias)


@_one_pass
def _into_branch(d_out, keep, dtype):
    return _rounded(keep * d_out, dtype)


@_one_pass
def _bias_gelu_backward(hidden, bias, d):
    value, slope = _gelu(_float(hidden) + bias)
    return _rounded(value, hidden.dtype), _rounded(slope * _float(d), hidden.dtype)


@_one_pass
def _norm_backward(x, gain, shift, dy, d_out, keep, epsilon):
    d, scaled, normalized = _normalize_backward(x, gain, _float(dy), epsilon)
    d += d_out
    y = _rounded(normalized * gain + shift, dy.dtype)
    return d, _swap(_rounded(keep * d, dy.dtype)), y, _rounded(scaled, dy.dtype)


@_one_pass
def _norm_transposed_backward(x, gain, shift, dy, d_out, epsilon):
    d, scaled, normalized = _normalize_backward(x, gain, _float(_swap(dy)), epsilon)
    y = _swap(_rounded(normalized * gain + shift, dy.dtype))
    return d + d_out, y, _rounded(scaled, dy.dtype)
