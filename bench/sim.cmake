foreach(name event_queue simulator)
  add_executable(${name}_bench ${CMAKE_CURRENT_LIST_DIR}/${name}_bench.cpp)
  target_link_libraries(${name}_bench PRIVATE foretrain_sim benchmark::benchmark_main foretrain_warnings)
  target_include_directories(${name}_bench PRIVATE ${CMAKE_SOURCE_DIR})
endforeach()
if(TARGET foretrain_flow_traffic)  # stands in tests/support
  add_executable(flows_bench ${CMAKE_CURRENT_LIST_DIR}/flows_bench.cpp)
  target_link_libraries(flows_bench PRIVATE foretrain_flow_traffic benchmark::benchmark foretrain_warnings)
  target_include_directories(flows_bench PRIVATE ${CMAKE_SOURCE_DIR})
endif()
add_executable(contention_table ${CMAKE_CURRENT_LIST_DIR}/contention_table.cpp)  # prints, measures no time
target_link_libraries(contention_table PRIVATE foretrain_sim foretrain_warnings)
target_include_directories(contention_table PRIVATE ${CMAKE_SOURCE_DIR})
