/* See vmm.h. */
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define GICD_BASE 0x08000000ull
#define GICR_BASE 0x080a0000ull
#define UART_BASE 0x09000000ull
#define UART_FR (UART_BASE + 0x18)
#define UART_RX_EMPTY (1 << 4)

void fail(int error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fflush(stdout);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fprintf(stderr, error != 0 ? ": %s\n" : "\n", strerror(error));
  exit(1);
}

void report(const char *format, ...) {
  char line[1024] = "@corevisor ";
  size_t head = strlen(line);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + head, sizeof line - head - 1, format, arguments);
  va_end(arguments);
  strcat(line, "\n");
  fflush(stdout);
  if (write(STDOUT_FILENO, line, strlen(line)) < 0) _exit(1);
}

uint8_t *guest_memory(size_t size, int flags) {
  uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail(errno, "cannot map %zu bytes", size);
  if (madvise(memory, size, MADV_NOHUGEPAGE) < 0 && errno != EINVAL) fail(errno, "madvise");
  return memory;
}

uint8_t *shared_memory(size_t size, const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, (off_t)size) < 0) fail(errno, "%s", path);
  uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) fail(errno, "cannot map %s", path);
  close(fd);
  return memory;
}

static int control(int fd, const char *what, unsigned long request, void *argument) {
  int result = ioctl(fd, request, argument);
  if (result < 0) fail(errno, "%s", what);
  return result;
}

void vm_open(struct vm *vm) {
  memset(vm, 0, sizeof *vm);
  vm->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (vm->system < 0) fail(errno, "/dev/kvm");
  vm->fd = control(vm->system, "KVM_CREATE_VM", KVM_CREATE_VM, NULL);
}

bool vm_map(struct vm *vm, uint64_t address, void *memory, size_t size) {
  struct kvm_userspace_memory_region region = {
    .slot = (uint32_t)vm->slots,
    .guest_phys_addr = address,
    .memory_size = size,
    .userspace_addr = (uintptr_t)memory,
  };
  if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0) return false;
  vm->slots++;
  return true;
}

static void set_gic(struct vm *vm, uint32_t group, uint64_t attribute, void *value) {
  struct kvm_device_attr attr = { .group = group, .attr = attribute, .addr = (uintptr_t)value };
  control(vm->gic, "KVM_SET_DEVICE_ATTR", KVM_SET_DEVICE_ATTR, &attr);
}

void vm_add_gic(struct vm *vm, int vcpus) {
  struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
  control(vm->fd, "KVM_CREATE_DEVICE", KVM_CREATE_DEVICE, &device);
  vm->gic = (int)device.fd;
  uint32_t interrupts = 64;
  uint64_t distributor = GICD_BASE;
  /* KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION: count in bits 63:52, address in 51:16, index in 11:0. */
  uint64_t redistributors = ((uint64_t)vcpus << 52) | GICR_BASE;
  set_gic(vm, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts);
  set_gic(vm, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &distributor);
  set_gic(vm, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, &redistributors);
  set_gic(vm, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
}

void vcpu_open(struct vcpu *vcpu, struct vm *vm, int number, uint32_t features, uint64_t entry) {
  vcpu->vm = vm;
  vcpu->number = number;
  vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)number);
  if (vcpu->fd < 0) fail(errno, "KVM_CREATE_VCPU");
  int size = control(vm->system, "KVM_GET_VCPU_MMAP_SIZE", KVM_GET_VCPU_MMAP_SIZE, NULL);
  vcpu->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
  if (vcpu->run == MAP_FAILED) fail(errno, "cannot map a vCPU");
  struct kvm_vcpu_init init = { 0 };
  control(vm->fd, "KVM_ARM_PREFERRED_TARGET", KVM_ARM_PREFERRED_TARGET, &init);
  init.features[0] = features | (1u << KVM_ARM_VCPU_PSCI_0_2) | (number > 0 ? 1u << KVM_ARM_VCPU_POWER_OFF : 0);
  control(vcpu->fd, "KVM_ARM_VCPU_INIT", KVM_ARM_VCPU_INIT, &init);
  int sve = KVM_ARM_VCPU_SVE;
  if ((features & (1u << KVM_ARM_VCPU_SVE)) != 0) control(vcpu->fd, "KVM_ARM_VCPU_FINALIZE", KVM_ARM_VCPU_FINALIZE, &sve);
  vcpu_set(vcpu, CORE_REGISTER(regs.pc), entry);
}

void vcpu_close(struct vcpu *vcpu) {
  munmap(vcpu->run, (size_t)control(vcpu->vm->system, "KVM_GET_VCPU_MMAP_SIZE", KVM_GET_VCPU_MMAP_SIZE, NULL));
  close(vcpu->fd);
}

void vm_close(struct vm *vm) {
  if (vm->gic > 0) close(vm->gic);
  close(vm->fd);
  close(vm->system);
}

uint64_t vcpu_get(struct vcpu *vcpu, uint64_t id) {
  uint64_t value = 0;
  struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };
  control(vcpu->fd, "KVM_GET_ONE_REG", KVM_GET_ONE_REG, &reg);
  return value;
}

void vcpu_set(struct vcpu *vcpu, uint64_t id, uint64_t value) {
  struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };
  control(vcpu->fd, "KVM_SET_ONE_REG", KVM_SET_ONE_REG, &reg);
}

/* Byte that the guest can read next, or -1. */
static int waiting = -1;

static void on_mmio(struct kvm_run *run, const struct console *console) {
  if (run->mmio.is_write) {
    if (run->mmio.phys_addr == UART_BASE && console->put != NULL) console->put((char)run->mmio.data[0]);
    return;
  }
  memset(run->mmio.data, 0, sizeof run->mmio.data);
  if (run->mmio.phys_addr == UART_FR) {
    if (waiting < 0 && console->get != NULL) waiting = console->get();
    run->mmio.data[0] = waiting < 0 ? UART_RX_EMPTY : 0;
  } else if (run->mmio.phys_addr == UART_BASE) {
    run->mmio.data[0] = (uint8_t)waiting;
    waiting = -1;
  }
}

int vcpu_run(struct vcpu *vcpu, const struct console *console) {
  struct kvm_run *run = vcpu->run;
  for (;;) {
    if (ioctl(vcpu->fd, KVM_RUN, NULL) < 0) return run->exit_reason == KVM_EXIT_FAIL_ENTRY ? KVM_EXIT_FAIL_ENTRY : -errno;
    switch (run->exit_reason) {
      case KVM_EXIT_MMIO:
        on_mmio(run, console);
        break;
      case KVM_EXIT_SYSTEM_EVENT:
        return 0;
      default:
        return (int)run->exit_reason;
    }
  }
}

void load_file(const char *path, uint8_t *memory, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(errno, "%s", path);
  size_t done = 0;
  for (ssize_t part = 1; part > 0 && done < size; done += (size_t)part) {
    part = read(fd, memory + done, size - done);
    if (part < 0) fail(errno, "%s", path);
  }
  close(fd);
}
