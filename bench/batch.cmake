add_executable(batch_bench ${CMAKE_CURRENT_LIST_DIR}/batch_bench.cpp)
target_link_libraries(batch_bench PRIVATE foretrain::allocator foretrain_cli benchmark::benchmark_main foretrain_warnings)
target_include_directories(batch_bench PRIVATE ${CMAKE_SOURCE_DIR})
