# Warnings for our own targets, and the sanitizers for everything.
add_library(foretrain_warnings INTERFACE)
set(own_languages $<COMPILE_LANGUAGE:C,CXX>)  # nvcc has words of its own
target_compile_options(foretrain_warnings INTERFACE
  $<${own_languages}:-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers>)
# GCC 12 sees overlapping copies inside std::string's operator+ (its bug 105651).
target_compile_options(foretrain_warnings INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>)
if(FORETRAIN_WERROR)
  target_compile_options(foretrain_warnings INTERFACE $<${own_languages}:-Werror> $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()

# One result on any x86-64 machine: no contraction of a*b+c, no fast-math anywhere in the tree.
add_compile_options($<${own_languages}:-ffp-contract=off>)
# __FILE__ in messages is the path from the repository root, wherever it was built.
add_compile_options($<${own_languages}:-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=>)

if(FORETRAIN_SANITIZE)
  if(FORETRAIN_SANITIZE MATCHES "thread" AND FORETRAIN_SANITIZE MATCHES "address")
    message(FATAL_ERROR "FORETRAIN_SANITIZE: 'thread' and 'address' exclude each other; build them as two presets (dev, tsan)")
  endif()
  add_compile_options(-fsanitize=${FORETRAIN_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${FORETRAIN_SANITIZE})
  if(FORETRAIN_SANITIZE MATCHES "undefined")
    # Its checks are millions of pointers, which would be relocated at each start.
    add_link_options($<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:-no-pie>)
  endif()
endif()
