add_executable(network_bench ${CMAKE_CURRENT_LIST_DIR}/network_bench.cpp)
target_link_libraries(network_bench PRIVATE foretrain_topologies benchmark::benchmark_main foretrain_warnings)
target_include_directories(network_bench PRIVATE ${CMAKE_SOURCE_DIR})
