/*
 * What the C that wasm2c generates from kcore.wasm needs, in place of wasm2c's own preamble: integer operators,
 * and linear memory as one array of constant size. Every access is checked against that size; the compiler drops the
 * checks that cannot fail. There is no call-depth counter and no other shared state.
 */
#ifndef KCORE_WASM_H
#define KCORE_WASM_H

#include <stdint.h>

typedef uint8_t u8;
typedef int8_t s8;
typedef uint16_t u16;
typedef int16_t s16;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;

/* Linear memory; its size comes from the module. */
extern u8 linear_memory[];

/* wasm2c passes an instance and a memory to every function; KCore has one of each, known statically. */
typedef struct { u8 unused; } wasm_rt_memory_t;
struct w2c_machine;
typedef struct w2c_kcore {
  struct w2c_machine *w2c_machine_instance;
  wasm_rt_memory_t w2c_memory;
} w2c_kcore;

#define INLINE static inline __attribute__((always_inline, unused))
#define TRAP(reason) (__builtin_trap(), 0)
#define UNREACHABLE TRAP(UNREACHABLE)
#define FUNC_PROLOGUE
#define FUNC_EPILOGUE

/* The address of `size` bytes at `address` in linear memory, or a trap. */
INLINE u8 *linear(u64 address, u64 size) {
  if (__builtin_expect(address > LINEAR_MEMORY_SIZE - size, 0)) __builtin_trap();
  return linear_memory + address;
}

#define LOAD(name, stored, widened, result) \
  INLINE result name##_default32(wasm_rt_memory_t *memory, u64 address) { \
    stored value; \
    (void)memory; \
    __builtin_memcpy(&value, linear(address, sizeof value), sizeof value); \
    return (result)(widened)value; \
  }
#define STORE(name, stored, value_type) \
  INLINE void name##_default32(wasm_rt_memory_t *memory, u64 address, value_type wide) { \
    stored value = (stored)wide; \
    (void)memory; \
    __builtin_memcpy(linear(address, sizeof value), &value, sizeof value); \
  }

LOAD(i32_load, u32, u32, u32)
LOAD(i32_load8_u, u8, u32, u32)
LOAD(i32_load8_s, s8, s32, u32)
LOAD(i32_load16_u, u16, u32, u32)
LOAD(i32_load16_s, s16, s32, u32)
LOAD(i64_load, u64, u64, u64)
LOAD(i64_load8_u, u8, u64, u64)
LOAD(i64_load8_s, s8, s64, u64)
LOAD(i64_load16_u, u16, u64, u64)
LOAD(i64_load16_s, s16, s64, u64)
LOAD(i64_load32_u, u32, u64, u64)
LOAD(i64_load32_s, s32, s64, u64)
STORE(i32_store, u32, u32)
STORE(i32_store8, u8, u32)
STORE(i32_store16, u16, u32)
STORE(i64_store, u64, u64)
STORE(i64_store8, u8, u64)
STORE(i64_store16, u16, u64)
STORE(i64_store32, u32, u64)

#define ATOMICS(name, type) \
  INLINE type name##_atomic_load_default32(wasm_rt_memory_t *memory, u64 address) { \
    (void)memory; \
    return __atomic_load_n((type *)linear(address, sizeof(type)), __ATOMIC_ACQUIRE); \
  } \
  INLINE void name##_atomic_store_default32(wasm_rt_memory_t *memory, u64 address, type value) { \
    (void)memory; \
    __atomic_store_n((type *)linear(address, sizeof(type)), value, __ATOMIC_RELEASE); \
  } \
  INLINE type name##_atomic_rmw_add_default32(wasm_rt_memory_t *memory, u64 address, type value) { \
    (void)memory; \
    return __atomic_fetch_add((type *)linear(address, sizeof(type)), value, __ATOMIC_ACQUIRE); \
  } \
  INLINE type name##_atomic_rmw_cmpxchg_default32(wasm_rt_memory_t *memory, u64 address, type expected, type value) { \
    (void)memory; \
    __atomic_compare_exchange_n((type *)linear(address, sizeof(type)), &expected, value, 0, __ATOMIC_ACQUIRE, \
                                __ATOMIC_ACQUIRE); \
    return expected; \
  }

ATOMICS(i32, u32)
ATOMICS(i64, u64)

#define I32_CLZ(x) ((x) ? (u32)__builtin_clz(x) : 32)
#define I64_CLZ(x) ((x) ? (u64)__builtin_clzll(x) : 64)
#define I32_CTZ(x) ((x) ? (u32)__builtin_ctz(x) : 32)
#define I64_CTZ(x) ((x) ? (u64)__builtin_ctzll(x) : 64)
#define DIV_U(x, y) (__builtin_expect((y) == 0, 0) ? TRAP(DIV_BY_ZERO) : (x) / (y))
#define REM_U(x, y) (__builtin_expect((y) == 0, 0) ? TRAP(DIV_BY_ZERO) : (x) % (y))

#endif
