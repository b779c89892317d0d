#include <cpuid.h>
#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>

#include "kernels/bf16_library.h"
#include "kernels/onednn_module.h"

namespace foretrain::kernels {

namespace {

// Leaf 7 of cpuid: subleaf 0, EDX bits 22 (AMX_BF16), 23 (AVX512_FP16) and 24 (AMX_TILE); subleaf 1, EAX bit 5
// (AVX512_BF16).
bool has_amx_bf16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx >> 22 & 1) != 0 && (edx >> 24 & 1) != 0;
}
bool has_avx512_fp16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx >> 23 & 1) != 0;
}
bool has_avx512_bf16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __builtin_cpu_supports("avx512f") != 0 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
         (eax >> 5 & 1) != 0;
}

// The kernel hands out the AMX tile registers on request only.
bool request_amx() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Bf16Library open_library() {
  // Feature bits, never the model: virtual machines hide it. Cores with AMX, which came together with AVX512_FP16, run
  // AVX512_BF16 at half the speed of fp32 (measured on Sapphire Rapids and Emerald Rapids): without AMX, for want of
  // permission or because the virtual machine hides it, the fp32 kernels are the better choice.
  const bool amx = has_amx_bf16();
  const bool avx512_bf16 = has_avx512_bf16();
  if (!amx && !avx512_bf16) {
    return {.description = "fp32 (the processor has neither AMX nor AVX512_BF16)"};
  }
  if (!amx && has_avx512_fp16()) {
    return {.description = "fp32 (without AMX this processor's AVX512_BF16 is slower)"};
  }
  if (amx && !request_amx()) {
    return {.description = "fp32 (the operating system does not permit AMX)"};
  }
  std::string why;
  const auto matmul = load_onednn_matmul(&why);
  if (matmul == nullptr) {
    return {.description = "fp32 (" + why + ")"};
  }
  return {.matmul = matmul, .description = amx ? "oneDNN (amx)" : "oneDNN (avx512_bf16)"};
}

}  // namespace

// The module stands beside the executable, or where it was built.
LibraryMatmul load_onednn_matmul(std::string* why) {
  std::error_code error;
  const std::filesystem::path executable = std::filesystem::read_symlink("/proc/self/exe", error);
  void* module = nullptr;
  for (const std::filesystem::path& folder : {executable.parent_path(), std::filesystem::path(FORETRAIN_MODULE_DIR)}) {
    module = module != nullptr ? module : dlopen((folder / kOneDnnModule).c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  void* symbol = module != nullptr ? dlsym(module, kOneDnnMatmul) : nullptr;
  if (symbol == nullptr) {
    *why = dlerror();
  }
  return reinterpret_cast<LibraryMatmul>(symbol);
}

const Bf16Library& bf16_library() {
  static const Bf16Library library = open_library();
  return library;
}

}  // namespace foretrain::kernels
