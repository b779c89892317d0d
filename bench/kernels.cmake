# Speed of the kernels, one thread: kernels_bench [--benchmark_filter=…]. Where OpenBLAS is installed it is measured beside
# our products; nothing else uses it.
add_executable(kernels_bench ${CMAKE_CURRENT_LIST_DIR}/kernels_bench.cpp)
target_link_libraries(kernels_bench PRIVATE foretrain_kernels benchmark::benchmark foretrain_warnings)
find_path(FORETRAIN_CBLAS_INCLUDE cblas.h PATH_SUFFIXES ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial openblas)
find_library(FORETRAIN_CBLAS_LIBRARY openblas PATH_SUFFIXES openblas-serial)
if(FORETRAIN_CBLAS_INCLUDE AND FORETRAIN_CBLAS_LIBRARY)
  target_sources(kernels_bench PRIVATE ${CMAKE_CURRENT_LIST_DIR}/openblas_bench.cpp)
  target_include_directories(kernels_bench SYSTEM PRIVATE ${FORETRAIN_CBLAS_INCLUDE})
  target_link_libraries(kernels_bench PRIVATE ${FORETRAIN_CBLAS_LIBRARY})
endif()
