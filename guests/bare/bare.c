/* The shared part of every bare-metal guest; see bare.h. */
#include "bare.h"

#include <stdarg.h>

void secondary_start(void);

/* PL011: data register, flag register (bit 4: nothing received). */
#define UART_DR UART
#define UART_FR (UART + 0x18)

/* GICv3 distributor and redistributors (Arm IHI 0069). */
#define GICD_CTLR 0x0
#define GICR_STRIDE 0x20000
#define GICR_WAKER 0x14
#define GICR_SGI 0x10000
#define GICR_IGROUPR0 0x80
#define GICR_ISENABLER0 0x100
#define GICR_ICENABLER0 0x180
#define GICR_IPRIORITYR 0x400

void put(char byte) { write32(UART_DR, (u8)byte); }

int get(void) { return read32(UART_FR) & (1 << 4) ? -1 : (int)(read32(UART_DR) & 0xff); }

static void put_number(u64 value, u32 base) {
  char digits[20];
  u32 count = 0;
  do {
    digits[count++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  while (count > 0) put(digits[--count]);
}

void print(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  for (; *format != 0; format++) {
    if (*format != '%') {
      put(*format);
      continue;
    }
    format++;
    if (*format == 's') {
      for (const char *text = va_arg(arguments, const char *); *text != 0; text++) put(*text);
    } else {
      put_number(va_arg(arguments, u64), *format == 'x' ? 16 : 10);
    }
  }
  va_end(arguments);
}

void power_off(void) {
  for (;;) call(PSCI_SYSTEM_OFF, 0, 0, 0);
}

bool start_vcpu(u32 number) { return call(PSCI_CPU_ON, number, (u64)secondary_start, number) == 0; }

void gic_on(u32 enabled) {
  u64 mine = GICR + (u64)vcpu() * GICR_STRIDE;
  write32(mine + GICR_WAKER, 0);
  while (read32(mine + GICR_WAKER) & (1 << 2)) relax();
  write32(mine + GICR_SGI + GICR_IGROUPR0, ~0u);
  for (u32 i = 0; i < 32; i += 4) write32(mine + GICR_SGI + GICR_IPRIORITYR + i, 0xa0a0a0a0);
  write32(mine + GICR_SGI + GICR_ICENABLER0, ~enabled);
  write32(mine + GICR_SGI + GICR_ISENABLER0, enabled);
  write32(GICD + GICD_CTLR, 0x12); /* affinity routing, group 1 */
  write_register(S3_0_C12_C12_5, 7);   /* ICC_SRE_EL1 */
  isb();
  write_register(S3_0_C4_C6_0, 0xff);  /* ICC_PMR_EL1 */
  write_register(S3_0_C12_C12_7, 1);   /* ICC_IGRPEN1_EL1 */
  isb();
}

void send_sgi(u32 target, u32 number) {
  dsb();
  write_register(S3_0_C12_C11_5, ((u64)number << 24) | (1ul << target)); /* ICC_SGI1R_EL1 */
  isb();
}

_Noreturn static void give_up(const char *what, const struct frame *frame) {
  print("unexpected %s on vCPU %d: esr %x far %x pc %x\n", what, (u64)vcpu(), read_register(esr_el1),
        read_register(far_el1), frame->pc);
  power_off();
}

void on_unexpected(struct frame *frame) { give_up("exception vector", frame); }
__attribute__((weak)) void on_interrupt(struct frame *frame) { give_up("interrupt", frame); }
__attribute__((weak)) void on_exception(struct frame *frame) { give_up("exception", frame); }
__attribute__((weak)) void guest_secondary(u32) {}

/* What gcc may call for copies and fills of its own. */
void *memset(void *to, int byte, unsigned long size) {
  for (u8 *at = to; size > 0; size--) *at++ = (u8)byte;
  return to;
}
void *memcpy(void *to, const void *from, unsigned long size) {
  const u8 *source = from;
  for (u8 *at = to; size > 0; size--) *at++ = *source++;
  return to;
}
