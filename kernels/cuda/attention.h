// Attention on a GPU: the launchers of kernels.h, with the stream first. Tensors are device memory.
//
// attention_forward and attention_backward are cuDNN's where the stream has it and it takes them (cudnn_attention.h).
// Else they and the parts run on tensor cores for bf16 heads of up to 256 columns, else plainly in the wide
// type. The backward takes a pass for dq and others for dk and dv, so that nothing is added up in an order that
// changes; its workspace holds one number per query and head, and of a bias by distance sums of each 64 queries.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

void attention_forward(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, Tensor o, Tensor lse);
void attention_backward(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, ConstTensor o,
                        ConstTensor lse, ConstTensor d_o, Tensor dqkv);
void attention_part_forward(const Stream& stream, const AttentionShape& shape, const AttentionPart& part,
                            ConstTensor qkv, ConstTensor kv, Tensor o, Tensor lse);
void attention_part_backward(const Stream& stream, const AttentionShape& shape, const AttentionPart& part,
                             ConstTensor qkv, ConstTensor kv, ConstTensor o, ConstTensor lse, ConstTensor d_o,
                             Tensor dqkv, Tensor dkv, bool add_to_dq);
void attention_rows_forward(const Stream& stream, const AttentionShape& shape, const AttentionRows& rows, ConstTensor q,
                            ConstTensor kv, ConstTensor bias, Tensor o, Tensor lse);
void attention_rows_backward(const Stream& stream, const AttentionShape& shape, const AttentionRows& rows,
                             ConstTensor q, ConstTensor kv, ConstTensor bias, ConstTensor o, ConstTensor lse,
                             ConstTensor d_o, Tensor dq, Tensor dkv, Tensor d_bias);
void attention_merge(const Stream& stream, const AttentionShape& shape, std::int64_t parts, ConstTensor o_parts,
                     ConstTensor lse_parts, Tensor o, Tensor lse);
void attention_sinks_forward(const Stream& stream, const AttentionShape& shape, ConstTensor sinks, Tensor o,
                             Tensor lse);
// Rows are added up in an order of its own, the same each time.
void attention_sinks_backward(const Stream& stream, const AttentionShape& shape, ConstTensor sinks, ConstTensor o,
                              ConstTensor lse, ConstTensor d_o, Tensor d_sinks);

void attention_scores(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, Tensor s);
void attention_scale_mask(const Stream& stream, const AttentionShape& shape, Tensor s);
void attention_softmax(const Stream& stream, const AttentionShape& shape, ConstTensor s, Tensor p);
void attention_scale_mask_softmax(const Stream& stream, const AttentionShape& shape, ConstTensor s, Tensor p);
void attention_context(const Stream& stream, const AttentionShape& shape, ConstTensor p, ConstTensor qkv, Tensor o);
void attention_context_backward(const Stream& stream, const AttentionShape& shape, ConstTensor p, ConstTensor qkv,
                                ConstTensor d_o, Tensor dp, Tensor dqkv);
void attention_softmax_backward(const Stream& stream, const AttentionShape& shape, ConstTensor p, ConstTensor dp,
                                Tensor ds);
void attention_scale_mask_backward(const Stream& stream, const AttentionShape& shape, Tensor ds);
void attention_scale_mask_softmax_backward(const Stream& stream, const AttentionShape& shape, ConstTensor p,
                                           ConstTensor dp, Tensor ds);
void attention_scores_backward(const Stream& stream, const AttentionShape& shape, ConstTensor ds, ConstTensor qkv,
                               Tensor dqkv);

}  // namespace foretrain::kernels::cuda
