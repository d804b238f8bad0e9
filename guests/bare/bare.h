/*
 * What every bare-metal guest of ours uses: the PL011 console and the GICv3 of the `virt` machine, PSCI and the virtual
 * timer. It runs under QEMU and under our own small VMM alike (programs/vmm.c), which has the same devices.
 */
#ifndef BARE_H
#define BARE_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;

/* Memory map of QEMU's `virt` machine (hw/arm/virt.c). */
#define GICD 0x08000000ul
#define GICR 0x080a0000ul
#define UART 0x09000000ul
#define VIRTIO 0x0a000000ul

#define VIRTUAL_TIMER 27
#define PHYSICAL_TIMER 30

#define read_register(name) ({ u64 value_; __asm__ volatile("mrs %0, " #name : "=r"(value_) :: "memory"); value_; })
#define write_register(name, value) __asm__ volatile("msr " #name ", %x0" :: "rZ"((u64)(value)) : "memory")

static inline void isb(void) { __asm__ volatile("isb" ::: "memory"); }
static inline void dsb(void) { __asm__ volatile("dsb sy" ::: "memory"); }
static inline u32 read32(u64 address) { u32 value; __asm__ volatile("ldr %w0, [%1]" : "=r"(value) : "r"(address) : "memory"); return value; }
static inline void write32(u64 address, u32 value) { __asm__ volatile("str %w0, [%1]" :: "rZ"(value), "r"(address) : "memory"); }
static inline void write64(u64 address, u64 value) { __asm__ volatile("str %x0, [%1]" :: "rZ"(value), "r"(address) : "memory"); }
static inline void allow_interrupts(void) { __asm__ volatile("msr daifclr, #2" ::: "memory"); }
static inline void mask_interrupts(void) { __asm__ volatile("msr daifset, #2" ::: "memory"); }
/* Lets another CPU of an emulator that runs one at a time go on. */
static inline void relax(void) { __asm__ volatile("yield" ::: "memory"); }
static inline u64 counter(void) { isb(); u64 value = read_register(cntvct_el0); isb(); return value; }
/* Number of this vCPU. */
static inline u32 vcpu(void) { return (u32)read_register(tpidr_el1); }

/* The registers of an interrupted context, as the vectors save them. */
struct frame {
  u64 x[31];
  u64 pc;
  u64 pstate;
};

/* A call to firmware or hypervisor: x0..x3 in, x0 out. */
static inline u64 call(u64 function, u64 a, u64 b, u64 c) {
  register u64 x0 __asm__("x0") = function;
  register u64 x1 __asm__("x1") = a;
  register u64 x2 __asm__("x2") = b;
  register u64 x3 __asm__("x3") = c;
  __asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) :: "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
                   "x12", "x13", "x14", "x15", "x16", "x17", "memory");
  return x0;
}

#define PSCI_VERSION 0x84000000
#define PSCI_CPU_OFF 0x84000002
#define PSCI_CPU_ON 0xc4000003
#define PSCI_AFFINITY_INFO 0xc4000004
#define PSCI_SYSTEM_OFF 0x84000008

/* Console output. `print` takes %d (u64, decimal), %x (u64, hexadecimal) and %s. */
void put(char byte);
void print(const char *format, ...);
/* The next byte that the console received, or -1. */
int get(void);

/* Ends the machine. */
_Noreturn void power_off(void);
/* Starts vCPU `number` in guest_secondary(). False when it cannot. */
bool start_vcpu(u32 number);

/* Brings the GIC up for this vCPU: interrupts `enabled` (bits 0 to 31: SGIs and PPIs), any priority. */
void gic_on(u32 enabled);
void send_sgi(u32 target, u32 number);
/* Takes the interrupt that is pending at this vCPU, and ends it. */
static inline u32 take_interrupt(void) {
  u32 number = (u32)read_register(S3_0_C12_C12_0); /* ICC_IAR1_EL1 */
  dsb();
  return number;
}
static inline void end_interrupt(u32 number) { write_register(S3_0_C12_C12_1, number); isb(); } /* ICC_EOIR1_EL1 */

/* The guest provides these. A guest that expects none of a kind leaves the default, which says so and powers off. */
void guest_main(void);
void guest_secondary(u32 number);
void on_interrupt(struct frame *frame);
void on_exception(struct frame *frame);

#endif
