// Every op in plain loops: the definition of what the launchers of kernels.h compute. T is float or double, arithmetic
// and every operand alike. For tests, and for whoever wants to know what an op means; nothing else calls it.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace foretrain::kernels::reference {

template <class T>
void matmul(const MatmulShape& shape, const T* a, const T* b, const T* bias, T* c, bool accumulate);

template <class T>
void norm_forward(const NormShape& shape, const T* x, const T* gain, const T* bias, T* y, T* mean, T* rstd);
template <class T>
void norm_backward_input(const NormShape& shape, const T* x, const T* gain, const T* dy, const T* mean, const T* rstd,
                         T* dx, bool accumulate);
template <class T>
void norm_backward_weight(const NormShape& shape, const T* x, const T* dy, const T* mean, const T* rstd, T* dgain,
                          T* dbias, bool accumulate);

template <class T>
void head_norm_forward(const HeadNormShape& shape, const T* q_gain, const T* k_gain, T* qkv, T* raw);
template <class T>
void head_norm_backward_input(const HeadNormShape& shape, const T* raw, const T* q_gain, const T* k_gain, T* dqkv);
template <class T>
void head_norm_backward_weight(const HeadNormShape& shape, const T* raw, const T* dqkv, T* dq_gain, T* dk_gain);

template <class T>
void activation_forward(Activation kind, std::int64_t rows, std::int64_t cols, const T* x, T* y);
template <class T>
void activation_backward(Activation kind, std::int64_t rows, std::int64_t cols, const T* x, const T* dy, T* dx);
template <class T>
void residual_add(std::int64_t rows, std::int64_t cols, const T* a, const T* b, const T* bias, T* y);
template <class T>
void bias_gradient(std::int64_t rows, std::int64_t cols, const T* dy, T* db, bool accumulate);

template <class T>
void rotary_forward(const AttentionShape& shape, std::int64_t rotary_dim, const RotaryFrequencies& frequencies,
                    std::int64_t position_offset, T* qkv);
template <class T>
void rotary_backward(const AttentionShape& shape, std::int64_t rotary_dim, const RotaryFrequencies& frequencies,
                     std::int64_t position_offset, T* dqkv);

template <class T>
void attention_scores(const AttentionShape& shape, const T* qkv, T* s);
template <class T>
void attention_scale_mask(const AttentionShape& shape, T* s);
template <class T>
void attention_softmax(const AttentionShape& shape, const T* s, T* p);
template <class T>
void attention_context(const AttentionShape& shape, const T* p, const T* qkv, T* o);
template <class T>
void attention_context_backward(const AttentionShape& shape, const T* p, const T* qkv, const T* d_o, T* dp, T* dqkv);
template <class T>
void attention_softmax_backward(const AttentionShape& shape, const T* p, const T* dp, T* ds);
template <class T>
void attention_scale_mask_backward(const AttentionShape& shape, T* ds);
template <class T>
void attention_scores_backward(const AttentionShape& shape, const T* ds, const T* qkv, T* dqkv);
// The composition of the unfused ones.
template <class T>
void attention_forward(const AttentionShape& shape, const T* qkv, T* o, T* lse);
template <class T>
void attention_backward(const AttentionShape& shape, const T* qkv, const T* d_o, T* dqkv);

template <class T>
void attention_rows_forward(const AttentionShape& shape, const AttentionRows& rows, const T* q, const T* kv,
                            const T* bias, T* o, T* lse);
template <class T>
void attention_rows_backward(const AttentionShape& shape, const AttentionRows& rows, const T* q, const T* kv,
                             const T* bias, const T* o, const T* lse, const T* d_o, T* dq, T* dkv, T* d_bias);

template <class T>
void embedding_forward(const EmbeddingShape& shape, const std::int32_t* ids, const T* wte, const T* wpe, T* out);
template <class T>
void embedding_backward(const EmbeddingShape& shape, const std::int32_t* ids, const T* dout, T* dwte, T* dwpe);

template <class T>
void cross_entropy_stats(const CrossEntropyShape& shape, const T* logits, const std::int32_t* targets, T* stats);
template <class T>
void cross_entropy_combine(std::int64_t rows, std::int64_t parts, const T* stats, double scale, double* loss,
                           bool accumulate, T* row_stats);
template <class T>
void cross_entropy_backward(const CrossEntropyShape& shape, T* logits, const std::int32_t* targets, const T* row_stats,
                            double scale);

template <class T>
double output_loss_forward(OutputLoss kind, std::int64_t n, const T* y, const T* target, double scale);
template <class T>
void output_loss_backward(OutputLoss kind, std::int64_t n, const T* y, const T* target, double scale, T* dy);

template <class T>
void optimizer_step(const OptimizerStep& step, std::int64_t n, const T* gradient, const double* coefficient,
                    T* parameter, T* m, T* v);
template <class T>
void lamb_update(const OptimizerStep& step, std::int64_t n, T* gradient, const double* coefficient, const T* parameter,
                 T* m, T* v);
template <class T>
void lamb_step(std::int64_t n, double learning_rate, const T* update, const double* weights, const double* updates,
               T* parameter);

void init_normal(const InitShape& shape, double standard_deviation, double* x);
void init_uniform(const InitShape& shape, double low, double high, double* x);

}  // namespace foretrain::kernels::reference
