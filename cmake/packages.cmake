# Every package the project uses, found once and in one place. Rooms link the targets named here and search for nothing
# themselves. The Debian 12 names stand in scripts/setup.sh.
find_package(Threads REQUIRED)
find_package(fmt 9 REQUIRED)             # fmt::fmt
find_package(nlohmann_json 3.11 REQUIRED)  # nlohmann_json::nlohmann_json
find_package(CLI11 2.1 REQUIRED)         # CLI11::CLI11
find_package(Boost 1.74 REQUIRED)        # Boost::headers: Boost.Graph
find_package(ZLIB REQUIRED)              # ZLIB::ZLIB: checksums
find_package(tinyxml2 9 REQUIRED)        # tinyxml2::tinyxml2: NCCL's topology files

# foretrain::dnnl, when present (FORETRAIN_HAVE_DNNL): oneDNN, for bf16 matmuls on the CPU's matrix units. Found by its
# files: the CMake package of Debian 12 asks for OpenCL headers that nothing here needs.
find_path(FORETRAIN_DNNL_INCLUDE oneapi/dnnl/dnnl.h)
find_library(FORETRAIN_DNNL_LIBRARY dnnl)
if(FORETRAIN_DNNL_INCLUDE AND FORETRAIN_DNNL_LIBRARY)
  set(FORETRAIN_HAVE_DNNL ON)
  add_library(foretrain_dnnl INTERFACE)
  target_include_directories(foretrain_dnnl SYSTEM INTERFACE ${FORETRAIN_DNNL_INCLUDE})
  target_link_libraries(foretrain_dnnl INTERFACE ${FORETRAIN_DNNL_LIBRARY})
  add_library(foretrain::dnnl ALIAS foretrain_dnnl)
else()
  set(FORETRAIN_HAVE_DNNL OFF)
  message(STATUS "oneDNN: not found; bf16 matmuls go without the CPU's matrix units (apt-get install libdnnl-dev)")
endif()

# foretrain::mpi, when present (FORETRAIN_HAVE_MPI): Open MPI, for ranks as processes. Its C interface only.
find_package(MPI QUIET COMPONENTS C)
if(MPI_C_FOUND)
  set(FORETRAIN_HAVE_MPI ON)
  add_library(foretrain_mpi_c INTERFACE)
  target_include_directories(foretrain_mpi_c SYSTEM INTERFACE ${MPI_C_INCLUDE_DIRS})
  target_link_libraries(foretrain_mpi_c INTERFACE ${MPI_C_LIBRARIES})
  target_compile_definitions(foretrain_mpi_c INTERFACE OMPI_SKIP_MPICXX)
  add_library(foretrain::mpi ALIAS foretrain_mpi_c)
else()
  set(FORETRAIN_HAVE_MPI OFF)
  message(STATUS "Open MPI: not found; ranks are threads only (apt-get install libopenmpi-dev openmpi-bin)")
endif()

# CUDA, when nvcc is there (FORETRAIN_HAVE_CUDA): GPU kernels and what drives them. Sanitizers do without.
set(FORETRAIN_HAVE_CUDA OFF)
set(FORETRAIN_HAVE_CUDNN OFF)
set(FORETRAIN_HAVE_NCCL OFF)
if(FORETRAIN_CUDA AND NOT FORETRAIN_SANITIZE)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
    endif()
    enable_language(CUDA)
    # nvcc's host compiler is ours: what it searches by itself may not come first.
    list(APPEND CMAKE_CUDA_IMPLICIT_INCLUDE_DIRECTORIES ${CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES})
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 knows nvcc up to C++17
    find_package(CUDAToolkit REQUIRED)   # CUDA::cudart_static, CUDA::cublasLt, …
    set(FORETRAIN_HAVE_CUDA ON)
    # foretrain::cudnn, when present (FORETRAIN_HAVE_CUDNN), for attention. It stands in the toolkit or in the system.
    find_path(FORETRAIN_CUDNN_INCLUDE cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(FORETRAIN_CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${CUDAToolkit_LIBRARY_DIR}
      ${CUDAToolkit_TARGET_DIR}/lib)
    if(FORETRAIN_CUDNN_INCLUDE AND FORETRAIN_CUDNN_LIBRARY)
      set(FORETRAIN_HAVE_CUDNN ON)
      add_library(foretrain_cudnn INTERFACE)
      target_include_directories(foretrain_cudnn SYSTEM INTERFACE ${FORETRAIN_CUDNN_INCLUDE})
      target_link_libraries(foretrain_cudnn INTERFACE ${FORETRAIN_CUDNN_LIBRARY})
      add_library(foretrain::cudnn ALIAS foretrain_cudnn)
    else()
      message(STATUS "cuDNN: not found; attention on GPUs runs on kernels of our own")
    endif()
    # foretrain::nccl, when present (FORETRAIN_HAVE_NCCL): its header; the library itself is opened when it is asked for.
    find_path(FORETRAIN_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    if(FORETRAIN_NCCL_INCLUDE)
      set(FORETRAIN_HAVE_NCCL ON)
      add_library(foretrain_nccl_header INTERFACE)
      target_include_directories(foretrain_nccl_header SYSTEM INTERFACE ${FORETRAIN_NCCL_INCLUDE} ${CUDAToolkit_INCLUDE_DIRS})
      add_library(foretrain::nccl ALIAS foretrain_nccl_header)
    else()
      message(STATUS "NCCL: not found; GPUs do not exchange with each other")
    endif()
  else()
    message(STATUS "nvcc: not found; no GPU can be used")
  endif()
endif()

if(FORETRAIN_TESTS)
  find_package(GTest)
  find_package(Python3 COMPONENTS Interpreter)
  if(NOT GTest_FOUND OR NOT Python3_FOUND)
    message(STATUS "GoogleTest or Python 3: not found; the tests are left out (apt-get install libgtest-dev python3)")
    set(FORETRAIN_TESTS OFF)
  endif()
endif()

# pybind11 (FORETRAIN_HAVE_PYBIND11), when present with Python's headers: the Python package. Sanitizers do without: they
# would have to be in the interpreter.
set(FORETRAIN_HAVE_PYBIND11 OFF)
if(NOT FORETRAIN_SANITIZE AND NOT FORETRAIN_FUZZ)
  find_package(Python3 QUIET COMPONENTS Interpreter Development.Module)
  set(PYBIND11_FINDPYTHON OFF)
  set(PYTHON_EXECUTABLE ${Python3_EXECUTABLE})
  if(Python3_Development.Module_FOUND)
    find_package(pybind11 2.10 QUIET CONFIG)
    set(FORETRAIN_HAVE_PYBIND11 ${pybind11_FOUND})
  endif()
  if(NOT FORETRAIN_HAVE_PYBIND11)
    message(STATUS "pybind11: not found; there is no Python package (apt-get install pybind11-dev python3-dev)")
  endif()
endif()

# foretrain::allocator: of a program that is to have mimalloc, when present, in place of the C library's allocator. A
# search, which builds and drops thousands of graphs, takes 1.16 to 1.21 times as long without. Sanitizers have their own.
add_library(foretrain_allocator INTERFACE)
add_library(foretrain::allocator ALIAS foretrain_allocator)
if(NOT FORETRAIN_SANITIZE AND NOT FORETRAIN_FUZZ)
  find_package(mimalloc 2.0 QUIET)
  if(mimalloc_FOUND)
    target_link_libraries(foretrain_allocator INTERFACE mimalloc)
  else()
    message(STATUS "mimalloc: not found; a search takes a fifth longer (apt-get install libmimalloc-dev)")
  endif()
endif()

find_package(benchmark QUIET)            # benchmark::benchmark, for bench/

# foretrain::simgrid, when present (FORETRAIN_HAVE_SIMGRID): the other flow simulator, for tests and bench/ to compare with.
find_path(FORETRAIN_SIMGRID_INCLUDE simgrid/s4u.hpp)
find_library(FORETRAIN_SIMGRID_LIBRARY simgrid)
if(FORETRAIN_SIMGRID_INCLUDE AND FORETRAIN_SIMGRID_LIBRARY)
  set(FORETRAIN_HAVE_SIMGRID ON)
  add_library(foretrain_simgrid INTERFACE)
  target_include_directories(foretrain_simgrid SYSTEM INTERFACE ${FORETRAIN_SIMGRID_INCLUDE})
  target_link_libraries(foretrain_simgrid INTERFACE ${FORETRAIN_SIMGRID_LIBRARY})
  add_library(foretrain::simgrid ALIAS foretrain_simgrid)
else()
  set(FORETRAIN_HAVE_SIMGRID OFF)
  message(STATUS "SimGrid: not found; flows are not compared with it (apt-get install libsimgrid-dev)")
endif()

# foretrain::ns3, when present (FORETRAIN_HAVE_NS3): a simulator of packets, for tests to compare with.
find_path(FORETRAIN_NS3_INCLUDE ns3/point-to-point-module.h)
find_library(FORETRAIN_NS3_LIBRARY ns3-point-to-point)
if(FORETRAIN_NS3_INCLUDE AND FORETRAIN_NS3_LIBRARY)
  set(FORETRAIN_HAVE_NS3 ON)
  add_library(foretrain_ns3 INTERFACE)
  target_include_directories(foretrain_ns3 SYSTEM INTERFACE ${FORETRAIN_NS3_INCLUDE})
  target_link_libraries(foretrain_ns3 INTERFACE ns3-core ns3-network ns3-internet ns3-point-to-point ns3-traffic-control)
  add_library(foretrain::ns3 ALIAS foretrain_ns3)
else()
  set(FORETRAIN_HAVE_NS3 OFF)
  message(STATUS "ns-3: not found; flows are not compared with packets (apt-get install libns3-dev)")
endif()
