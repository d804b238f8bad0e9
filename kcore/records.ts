/**
 * Records of VMs and vCPUs.
 *
 * A VM is known to the host by its handle: the slot in the low 8 bits, a generation above, so that no handle and no
 * page owner ever means two VMs. A vCPU record is held by its try-lock: by the CPU that runs it, or briefly by a host
 * call about it. While one vCPU of a VM is held, the VM cannot be torn down, so the fields written at its
 * initialisation may be read.
 */
import { MAX_VCPUS, MAX_VMS, VCPU_RECORD_SIZE, VCPU_TABLE, VM_RECORD_SIZE, VM_TABLE } from "./layout";

/** States of a VM slot. */
export namespace VmState {
  export const FREE: u64 = 0;
  export const ACTIVE: u64 = 1;
  /** Being torn down: no vCPU runs any more, its tables are taken apart step by step. */
  export const DYING: u64 = 2;
}

@unmanaged
export class Vm {
  /** Slot number: VMID and lock number. */
  slot: u64;
  state: u64;
  /** Handle of the VM in this slot, or of the last one; 0 before the first. */
  handle: u64;
  /** The host's struct kvm: virtual and physical address; pinned. */
  kvmVa: u64;
  kvmPa: u64;
  /** Input address bits of its stage 2, and VTCR_EL2. */
  ipaBits: u64;
  vtcr: u64;
  /** 1 when its pages are donated to it, 0 when they are lent by the host. */
  privateMemory: u64;
  /** 1 once the host took a page away from a private VM: it gets no page any more. Guarded by the slot's lock. */
  broken: u64;
  /** First vCPU record, as linear address, or 0; number of vCPUs. LOCK_VMS. */
  firstVcpu: u64;
  vcpus: u64;
  /** While DYING: the input address up to which the tables are gone. */
  cursor: u64;
  /** Pages the host donated for its hypervisor's structures, returned at the end: first page and number. */
  hypVm: u64;
  hypVmPages: u64;
  pgd: u64;
  pgdPages: u64;
}

@unmanaged
export class Vcpu {
  /** Try-lock, 32 bits. */
  lock: u64;
  /** The host's struct kvm_vcpu: virtual and physical address; pinned. 0 in a free record. */
  hva: u64;
  pa: u64;
  /** Linear address of its VM's record. */
  vm: u64;
  /** VTTBR_EL2 and VTCR_EL2 while it runs. */
  vttbr: u64;
  vtcr: u64;
  /** Next vCPU record of the VM, as linear address, or 0. LOCK_VMS. */
  next: u64;
  /** SVE state buffer in host memory, pinned, with vector length in quadwords; 0 without SVE. */
  svePa: u64;
  sveVq: u64;
  /** HCR_EL2 bits that its features add: API and APK for pointer authentication. */
  hcr: u64;
  /** Input address of the stage 2 fault that the host is asked to resolve, with FAULT_* bits, or 0. */
  fault: u64;
  /** Input address of the page where the host last emulated an access: not looked for in its tables again. */
  mmioPage: u64;
  /** Pages the host donated for its hypervisor's vCPU structure. */
  hypVcpu: u64;
}

export const HCR_APK: u64 = 1 << 40;
export const HCR_API: u64 = 1 << 41;

/** Bits of `Vcpu.fault` below the page address: what the access was. */
export const FAULT_PRESENT: u64 = 1;
export const FAULT_WRITE: u64 = 2;
export const FAULT_EXECUTE: u64 = 4;

/** The record of VM slot `slot`, below `MAX_VMS`. */
export function vmAt(slot: u32): Vm {
  return changetype<Vm>(VM_TABLE + <usize>(slot & (MAX_VMS - 1)) * VM_RECORD_SIZE);
}

/** vCPU record number `index`, below `MAX_VCPUS`. */
export function vcpuAt(index: u32): Vcpu {
  return changetype<Vcpu>(VCPU_TABLE + <usize>(index & (MAX_VCPUS - 1)) * VCPU_RECORD_SIZE);
}

/** The vCPU record at a linear address kept in another record. */
export function vcpuOf(address: u64): Vcpu {
  return changetype<Vcpu>(VCPU_TABLE | (<usize>address & ((<usize>MAX_VCPUS - 1) * VCPU_RECORD_SIZE)));
}

/** The VM of a vCPU record that is held. */
export function vmOf(vcpu: Vcpu): Vm {
  return changetype<Vm>(VM_TABLE | (<usize>vcpu.vm & ((<usize>MAX_VMS - 1) * VM_RECORD_SIZE)));
}
