/*
 * vm [-c VCPUS] [-m MIB] [-f FEATURE]... FILE: runs a bare-metal guest (bare/) as a VM until it powers off.
 *
 * FEATURE is sve, pauth or pmu. The guest's console goes to standard output. Ends with 0 when the guest powered off, 1 when it
 * could not run, with KVM's reason.
 */
#include "vmm.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static void put(char byte) {
  putchar(byte);
  if (byte == '\n') fflush(stdout);
}

static const struct console console = { .put = put };

/* One vCPU, from its start to the end of the VM; the first to see the end ends the process. */
static void *run(void *argument) {
  struct vcpu *vcpu = argument;
  int result = vcpu_run(vcpu, &console);
  if (result < 0) fail(-result, "vCPU %d: KVM_RUN", vcpu->number);
  if (result > 0) {
    uint64_t pc = vcpu_get(vcpu, CORE_REGISTER(regs.pc));
    fail(0, "vCPU %d: KVM exit %d at pc %#llx", vcpu->number, result, (unsigned long long)pc);
  }
  fflush(stdout);
  exit(0);
}

/* The vCPU features behind a name. */
static uint32_t feature(const char *name) {
  if (strcmp(name, "sve") == 0) return 1u << KVM_ARM_VCPU_SVE;
  if (strcmp(name, "pmu") == 0) return 1u << KVM_ARM_VCPU_PMU_V3;
  if (strcmp(name, "pauth") == 0) return (1u << KVM_ARM_VCPU_PTRAUTH_ADDRESS) | (1u << KVM_ARM_VCPU_PTRAUTH_GENERIC);
  fail(0, "no feature %s", name);
}

/* Connects the PMU's overflow interrupt, PPI 23, without which KVM runs no vCPU that has a PMU. */
static void add_pmu(struct vcpu *vcpu) {
  int interrupt = 23;
  struct kvm_device_attr irq = { .group = KVM_ARM_VCPU_PMU_V3_CTRL, .attr = KVM_ARM_VCPU_PMU_V3_IRQ, .addr = (uintptr_t)&interrupt };
  struct kvm_device_attr init = { .group = KVM_ARM_VCPU_PMU_V3_CTRL, .attr = KVM_ARM_VCPU_PMU_V3_INIT };
  if (ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &irq) < 0 || ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &init) < 0) fail(errno, "PMU");
}

int main(int count, char **words) {
  int vcpus = 1;
  size_t size = 64 << 20;
  uint32_t features = 0;
  for (int option; (option = getopt(count, words, "c:m:f:")) != -1;) {
    if (option == 'c') vcpus = atoi(optarg);
    else if (option == 'm') size = strtoul(optarg, NULL, 10) << 20;
    else if (option == 'f') features |= feature(optarg);
    else return 1;
  }
  if (optind != count - 1 || vcpus < 1 || vcpus > MAX_VCPUS) fail(0, "usage: vm [-c VCPUS] [-m MIB] [-f FEATURE]... FILE");
  struct vm vm;
  struct vcpu all[MAX_VCPUS];
  pthread_t threads[MAX_VCPUS];
  uint8_t *memory = guest_memory(size, MAP_PRIVATE);
  load_file(words[optind], memory + (GUEST_ENTRY - RAM_BASE), size - (GUEST_ENTRY - RAM_BASE));
  vm_open(&vm);
  if (!vm_map(&vm, RAM_BASE, memory, size)) fail(errno, "cannot map the guest's RAM");
  for (int i = 0; i < vcpus; i++) vcpu_open(&all[i], &vm, i, features, GUEST_ENTRY);
  vm_add_gic(&vm, vcpus);
  if ((features & (1u << KVM_ARM_VCPU_PMU_V3)) != 0) for (int i = 0; i < vcpus; i++) add_pmu(&all[i]);
  for (int i = 0; i < vcpus; i++) {
    int error = pthread_create(&threads[i], NULL, run, &all[i]);
    if (error != 0) fail(error, "cannot start a thread");
  }
  for (int i = 0; i < vcpus; i++) pthread_join(threads[i], NULL);
  return 1;
}
