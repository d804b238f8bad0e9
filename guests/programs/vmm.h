/*
 * A virtual machine monitor in small: what the programs here share to make VMs on /dev/kvm. Its machine is QEMU's `virt`
 * in outline: GICv3 at 0x08000000, console at 0x09000000, RAM at 0x40000000.
 */
#ifndef VMM_H
#define VMM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAM_BASE 0x40000000ull
/* Where guests of bare/ are loaded and entered. */
#define GUEST_ENTRY 0x40400000ull
#define MAX_VCPUS 8

struct vm {
  int system; /* /dev/kvm */
  int fd;
  int gic; /* the GIC's device, or 0 before vm_add_gic */
  int slots;
};

struct vcpu {
  struct vm *vm;
  int number;
  int fd;
  struct kvm_run *run;
};

/* Prints a line and ends the process with status 1. Appends the text of errno when `error` is not 0. */
_Noreturn void fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints `@corevisor {...}` as one write, so that lines of several threads or processes do not mix. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory for a guest, of 4 KiB pages. `flags`: MAP_SHARED or MAP_PRIVATE. */
uint8_t *guest_memory(size_t size, int flags);
/* The same, which other processes can map too: the file `path`, made anew. */
uint8_t *shared_memory(size_t size, const char *path);

void vm_open(struct vm *vm);
/* Maps memory of this process at a guest address. False, with errno set, when KVM refuses. */
bool vm_map(struct vm *vm, uint64_t address, void *memory, size_t size);
/* The in-kernel GICv3; before vcpus run, after all are made. */
void vm_add_gic(struct vm *vm, int vcpus);
/* Makes a vCPU. `features` are bits 1 << KVM_ARM_VCPU_*; PSCI is always there. The first one is entered at `entry`. */
void vcpu_open(struct vcpu *vcpu, struct vm *vm, int number, uint32_t features, uint64_t entry);
/* Closes the vCPU and unmaps its structure. */
void vcpu_close(struct vcpu *vcpu);
void vm_close(struct vm *vm);

uint64_t vcpu_get(struct vcpu *vcpu, uint64_t id);
void vcpu_set(struct vcpu *vcpu, uint64_t id, uint64_t value);
/* The id of a core register by its name in struct kvm_regs: CORE_REGISTER(regs.pc). */
#define CORE_REGISTER(name) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(name))

/* The guest's console. `get` gives the next byte for the guest, or -1; either may be NULL. */
struct console {
  void (*put)(char byte);
  int (*get)(void);
};

/*
 * Runs a vCPU until the guest powers off (0), the entry fails (its KVM exit reason), or KVM_RUN fails (-errno). MMIO outside the
 * console reads as 0.
 */
int vcpu_run(struct vcpu *vcpu, const struct console *console);

/* Reads a whole file to `memory`, which has room for `size` bytes. */
void load_file(const char *path, uint8_t *memory, size_t size);

#endif
