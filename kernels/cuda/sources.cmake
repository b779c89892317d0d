# The GPU kernels: built by nvcc here, and by the host's compiler in tests/kernels/cuda.
set(cuda_kernel_sources)
list(TRANSFORM cuda_kernel_sources REPLACE "(.+)" "${CMAKE_SOURCE_DIR}/kernels/cuda/\\1.cu")
