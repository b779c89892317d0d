# foretrain_test(<room>_test SOURCES a_test.cpp ... [LINK targets...]): one test program, each of its cases known to ctest.
include(GoogleTest)

function(foretrain_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${TEST_LINK} GTest::gtest_main foretrain_warnings)
  gtest_discover_tests(${name} TEST_PREFIX ${name}. WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
    DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600
    ENVIRONMENT FORETRAIN_PROFILE=${CMAKE_BINARY_DIR}/absent)  # no test depends on what calibrate once measured here
endfunction()
