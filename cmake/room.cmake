# foretrain_room(<name> SOURCES a.cpp ... [LINK targets...]): the static library of one room, foretrain_<name>.
function(foretrain_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINK" ${ARGN})
  add_library(foretrain_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(foretrain_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(foretrain_${name} PUBLIC ${ROOM_LINK} PRIVATE foretrain_warnings)
  # Tests spend their time in here: under sanitizers half of it, for a little more compile time.
  target_compile_options(foretrain_${name} PRIVATE $<$<CONFIG:Debug>:-O1>)
endfunction()
