/*
 * Micro-benchmark: a bare-metal guest that does each kind of exit many times and prints what one costs, in ticks of the
 * virtual counter times 1000, as `bench NAME TICKS_TIMES_1000 OPERATIONS`. Needs two vCPUs and 64 MiB of RAM.
 *
 * Operations are measured in batches, and the median batch is reported, so that the host's own timer ticks do not count.
 * Under QEMU's `-icount shift=0,sleep=off` a tick of the 62.5 MHz counter is 16 instructions of the machine, whoever
 * executes them. Both vCPUs spin with YIELD where they wait for each other, which lets an emulator that runs one CPU at
 * a time go on.
 */
#include "bare.h"

/* A batch of operations, short against the host's tick of 4 ms, and how many batches. */
#define BATCH 100
#define BATCHES 41
/* Far enough ahead that the vCPU runs again when the timer fires: 0.3 ms. */
#define TIMER_DELAY 18750
/* Fresh memory behind the guest, page by page. */
#define FRESH_BASE 0x42000000ul

#define GICD_IIDR (GICD + 8)

static volatile u32 received[2];
static volatile u32 ready;

void on_interrupt(struct frame *) {
  u32 number = take_interrupt();
  if (number == VIRTUAL_TIMER) write_register(cntv_ctl_el0, 0);
  end_interrupt(number);
  received[vcpu()]++;
}

void guest_secondary(u32) {
  gic_on(1 << 1);
  allow_interrupts();
  ready = 1;
  for (;;) relax();
}

static u64 ticks[BATCHES];

/* Prints the median of the batches. */
static void report(const char *name, u64 operations) {
  for (u32 i = 1; i < BATCHES; i++) {
    for (u32 j = i; j > 0 && ticks[j - 1] > ticks[j]; j--) {
      u64 larger = ticks[j - 1];
      ticks[j - 1] = ticks[j];
      ticks[j] = larger;
    }
  }
  print("bench %s %d %d\n", name, ticks[BATCHES / 2] * 1000 / operations, operations * BATCHES);
}

static void hypercall(void) { call(0x4b000000, 0, 0, 0); }

static void psci_version(void) { call(PSCI_VERSION, 0, 0, 0); }

static void user_read(void) { read32(VIRTIO + 8); }

static void vgic_read(void) { read32(GICD_IIDR); }

static void ipi(void) {
  u32 before = received[1];
  send_sgi(1, 1);
  while (received[1] == before) relax();
}

static void measure(const char *name, void (*operation)(void)) {
  for (u32 i = 0; i < 16; i++) operation();
  for (u32 batch = 0; batch < BATCHES; batch++) {
    u64 start = counter();
    for (u32 i = 0; i < BATCH; i++) operation();
    ticks[batch] = counter() - start;
  }
  report(name, BATCH);
}

/* From arming the timer to the return of its handler, less the delay. The other vCPU is off: nobody to let go on. */
static void measure_timer(void) {
  for (u32 batch = 0; batch < BATCHES; batch++) {
    ticks[batch] = 0;
    for (u32 i = 0; i < 5; i++) {
      u32 before = received[0];
      u64 start = counter();
      write_register(cntv_tval_el0, TIMER_DELAY);
      write_register(cntv_ctl_el0, 1);
      isb();
      while (received[0] == before) {}
      ticks[batch] += counter() - start - TIMER_DELAY;
    }
  }
  report("timer", 5);
}

static void measure_fault(void) {
  u64 page = FRESH_BASE;
  for (u32 batch = 0; batch < BATCHES; batch++) {
    u64 start = counter();
    for (u32 i = 0; i < BATCH; i++, page += 4096) write64(page, page);
    ticks[batch] = counter() - start;
  }
  report("stage-2-fault", BATCH);
}

void guest_main(void) {
  measure("hypercall", hypercall);
  measure("psci-version", psci_version);
  measure("mmio-user", user_read);
  measure_fault();
  gic_on((1 << 1) | (1 << VIRTUAL_TIMER));
  allow_interrupts();
  measure("mmio-vgic", vgic_read);
  measure_timer();
  if (start_vcpu(1)) {
    while (!ready) relax();
    measure("ipi", ipi);
  }
}
