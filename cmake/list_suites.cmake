# Read by ctest before it runs: each suite of a test program as one test. From foretrain_test: name, program, without,
# source, environment.
if(NOT EXISTS ${program})
  add_test(${name}_is_not_built ${program})
  return()
endif()
execute_process(COMMAND ${program} --gtest_list_tests --gtest_filter=-${without} OUTPUT_VARIABLE listed
  COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "(^|\n)[^ \n]+\\." suites "${listed}")
foreach(suite IN LISTS suites)
  string(REGEX REPLACE "^\n|\\.$" "" suite "${suite}")
  add_test(${name}.${suite} ${program} --gtest_brief=1 --gtest_filter=${suite}.*-${without})
  set_tests_properties(${name}.${suite} PROPERTIES WORKING_DIRECTORY ${source} TIMEOUT 600 ENVIRONMENT ${environment})
endforeach()
