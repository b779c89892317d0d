add_executable(plan_bench ${CMAKE_CURRENT_LIST_DIR}/plan_bench.cpp)
target_link_libraries(plan_bench PRIVATE foretrain_plan benchmark::benchmark_main foretrain_warnings)
target_include_directories(plan_bench PRIVATE ${CMAKE_SOURCE_DIR})
