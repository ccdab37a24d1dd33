"""Pure, batched functions of tensors: the mathematics of memory access.

Shapes used throughout: memory is `[batch, N, W]` (N slots of W numbers), keys
are `[batch, heads, W]`, strengths and gates `[batch, heads]`, weightings
`[batch, heads, N]`. With the single write head of a DNC, write weights, usage
and precedence are `[batch, N]` and the link matrix is `[batch, N, N]`.
"""

from keras_sam.ops.allocation import (
    allocation_weights,
    retention,
    usage_after_write,
)
from keras_sam.ops.content import content_weights, cosine_similarity
from keras_sam.ops.linkage import (
    directional_weights,
    update_link,
    update_precedence,
)
from keras_sam.ops.location import circular_shift, interpolate, sharpen
from keras_sam.ops.memory import erase_and_add, read
from keras_sam.ops.sparse import (
    sparse_read,
    sparse_write,
)
from keras_sam.ops.sparse_linkage import (
    SparseLinks,
    empty_links,
    follow_links,
    update_sparse_links,
)

__all__ = [
    "SparseLinks",
    "allocation_weights",
    "circular_shift",
    "content_weights",
    "cosine_similarity",
    "directional_weights",
    "empty_links",
    "erase_and_add",
    "follow_links",
    "interpolate",
    "read",
    "retention",
    "sharpen",
    "sparse_read",
    "sparse_write",
    "update_link",
    "update_precedence",
    "update_sparse_links",
    "usage_after_write",
]
