# The GPU kernels: built by nvcc here, and by the host's compiler in tests/kernels/cuda.
set(cuda_kernel_sources activation attention attention_merge attention_plain attention_softmax attention_tensor
    attention_tensor_backward bias_gradient compression cross_entropy elementwise embedding expert_activation expert_bias
    gate grouped grouped_tensor head_norm init latent_heads matmul_plain norm optimizer order outer_step output_loss
    receive_rows relative_bias rotary route)
list(TRANSFORM cuda_kernel_sources REPLACE "(.+)" "${CMAKE_SOURCE_DIR}/kernels/cuda/\\1.cu")
# What of them is the host's, and their checks.
set(cuda_host_sources attention_graph attention_products check check_attention check_attention_rows check_compression check_elementwise check_experts
    check_matmul check_optimizer check_rows check_tokens limits matmul matmul_layout)
list(TRANSFORM cuda_host_sources REPLACE "(.+)" "${CMAKE_SOURCE_DIR}/kernels/cuda/\\1.cpp")
# A kernel that spills registers or keeps an array in local memory does not build.
set(cuda_kernel_options -O3 --expt-relaxed-constexpr
    -Xptxas=--warn-on-spills,--warn-on-local-memory-usage,--warning-as-error)
