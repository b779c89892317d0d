# foretrain_test(<room>_test SOURCES a_test.cpp ... [LINK targets...] [TOGETHER Suite ...] [WITHOUT_ASAN Pattern ...]): one
# test program, each of its cases known to ctest; of suites whose cases share what takes long to make, the suite. Sanitizers
# start a program slowly: under them each suite is known. Cases of WITHOUT_ASAN (patterns of gtest) are those that find
# nothing there which others do not (CONTRIBUTING.md).
include(GoogleTest)

if(FORETRAIN_SANITIZE MATCHES "address")
  set(asan TRUE)
endif()

function(foretrain_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LINK;TOGETHER;WITHOUT_ASAN" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${TEST_LINK} GTest::gtest_main foretrain_warnings)
  set(environment FORETRAIN_PROFILE=${CMAKE_BINARY_DIR}/absent)  # no test depends on what calibrate once measured here
  if(FORETRAIN_SANITIZE)
    if(NOT asan)
      set(TEST_WITHOUT_ASAN "")
    endif()
    list(JOIN TEST_WITHOUT_ASAN : without)
    set(suites ${CMAKE_CURRENT_BINARY_DIR}/${name}_suites.cmake)
    file(GENERATE OUTPUT ${suites} CONTENT
"set(name ${name})
set(program $<TARGET_FILE:${name}>)
set(without \"${without}\")
set(source ${CMAKE_SOURCE_DIR})
set(environment ${environment})
include(${CMAKE_SOURCE_DIR}/cmake/list_suites.cmake)
")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${suites})
    return()
  endif()
  list(TRANSFORM TEST_TOGETHER APPEND .* OUTPUT_VARIABLE together)
  list(JOIN together : together)
  gtest_discover_tests(${name} TEST_PREFIX ${name}. WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} TEST_FILTER "*-${together}"
    DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600 ENVIRONMENT ${environment})
  foreach(suite IN LISTS TEST_TOGETHER)
    add_test(NAME ${name}.${suite} COMMAND ${name} --gtest_filter=${suite}.* WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name}.${suite} PROPERTIES TIMEOUT 600 ENVIRONMENT ${environment})
  endforeach()
endfunction()
