/**
 * Life and death of VMs and vCPUs, as the host announces them by `__pkvm_init_vm`, `__pkvm_init_vcpu` and
 * `__pkvm_teardown_vm` (arch/arm64/kvm/pkvm.c). LOCK_VMS guards who exists.
 *
 * The host also donates pages for a hypervisor's bookkeeping. The core has memory of its own, so it only remembers
 * them and hands them back at the end, as the host expects, on the list in struct kvm.
 */
import { bootInfo, coreState } from "./bootinfo";
import { EBUSY, EEXIST, EINVAL, ENOENT, ENOMEM, ERESTART } from "./errno";
import { pin, translate, translateRange, unpin } from "./hostmem";
import { MAX_VCPUS, MAX_VMS } from "./layout";
import { acquire, LOCK_S2PAGE, LOCK_VMS, release, tryAcquire, tryRelease } from "./lock";
import { host_read8, host_read32, host_read64, host_write64 } from "./machine";
import {
  dismantle,
  isDismantled,
  mapForHost,
  ownerNow,
  returnPage,
  takeBackAll,
  takeBackPage,
  takeBackRegion,
  withdraw,
} from "./memory";
import { nptVttbr } from "./npt";
import { vtcrFor } from "./pgtable";
import { profile } from "./profile";
import { HCR_API, HCR_APK, Vcpu, Vm, VmState, vcpuAt, vcpuOf, vmAt } from "./records";
import { isHostPage, isRam, OWNER_HOST, OWNER_RESERVED, s2pageIndex } from "./s2page";
import { tlbFlushLocal, tlbFlushVmid } from "./tlb";

/** Bits of `kvm_vcpu.arch.cflags` (asm/kvm_host.h GUEST_HAS_SVE, GUEST_HAS_PTRAUTH). */
const CFLAGS_SVE: u32 = 1 << 0;
const CFLAGS_PTRAUTH: u32 = 1 << 2;
/** Generations of a slot's handle: owner fields have 24 bits, 8 of them are the slot. */
const MAX_GENERATION: u64 = 0xffff;
/** Regions that one step of a restarted call looks at. */
const STEP: u32 = 16;

/** Bytes of SVE state for a vector length of `vq` quadwords: z0..z31, p0..p15, FFR. */
function sveBytes(vq: u64): u64 {
  return vq * (32 * 16 + 17 * 2);
}

/** Pages of the table that the host allocates for VTCR_EL2 `vtcr`: concatenated roots. */
function hostPgdPages(vtcr: u64): u64 {
  const bits = 64 - (vtcr & 63);
  const covered = 12 + 9 * (((vtcr >> 6) & 3) + 2);
  return bits > covered ? (<u64>1) << (bits - covered) : 1;
}

/** A slot that is free and whose generations are not used up, or 0. */
function freeSlot(): u32 {
  for (let slot: u32 = 1; slot < MAX_VMS; slot++) {
    const vm = vmAt(slot);
    if (vm.state == VmState.FREE && vm.handle >> 8 < MAX_GENERATION) return slot;
  }
  return 0;
}

/** The slot of the active or dying VM with this handle, or 0. */
function slotOf(handle: u64): u32 {
  const slot = <u32>handle & (MAX_VMS - 1);
  const vm = vmAt(slot);
  return slot != 0 && vm.state != VmState.FREE && vm.handle == handle ? slot : 0;
}

/** The slot of the active VM whose struct kvm is at `kvmVa`, or 0. */
function slotOfKvm(kvmVa: u64): u32 {
  for (let slot: u32 = 1; slot < <u32>coreState.vmSlots; slot++) {
    const vm = vmAt(slot);
    if (vm.state == VmState.ACTIVE && vm.kvmVa == kvmVa) return slot;
  }
  return 0;
}

/** Announces a VM: its handle, or an error number. `privateMemory` says whether its pages will be donated to it. */
function initVmLocked(kvmVa: u64, hypVmVa: u64, pgdVa: u64): i64 {
  if (slotOfKvm(kvmVa) != 0) return EEXIST;
  const slot = freeSlot();
  if (slot == 0) return ENOMEM;
  const kvmPa = translateRange(kvmVa, profile.kvmSize);
  const hypVm = translate(hypVmVa);
  const pgd = translate(pgdVa);
  if (kvmPa == 0 || hypVm == 0 || pgd == 0) return EINVAL;
  if (!pin(kvmPa, profile.kvmSize)) return EINVAL;
  const hostVtcr = host_read64(kvmPa + profile.mmuVtcr);
  let bits = 64 - (hostVtcr & 63);
  if (bits > coreState.hostIpaBits) bits = coreState.hostIpaBits;
  if (bits < 32) {
    unpin(kvmPa, profile.kvmSize);
    return EINVAL;
  }
  const vm = vmAt(slot);
  vm.slot = slot;
  vm.handle = (((vm.handle >> 8) + 1) << 8) | slot;
  vm.kvmVa = kvmVa;
  vm.kvmPa = kvmPa;
  vm.ipaBits = bits;
  vm.vtcr = vtcrFor(bits, (coreState.hostVtcr >> 16) & 7);
  vm.privateMemory = bootInfo.privateVms;
  vm.broken = 0;
  vm.firstVcpu = 0;
  vm.vcpus = 0;
  vm.cursor = 0;
  vm.hypVm = hypVm;
  vm.hypVmPages = profile.hypVmPages;
  vm.pgd = pgd;
  vm.pgdPages = hostPgdPages(hostVtcr);
  vm.state = VmState.ACTIVE;
  if (coreState.vmSlots <= slot) coreState.vmSlots = slot + 1;
  return vm.handle;
}

/** `__pkvm_init_vm`: a handle above 0, or an error number. */
export function initVm(kvmVa: u64, hypVmVa: u64, pgdVa: u64): i64 {
  acquire(LOCK_VMS);
  const result = initVmLocked(kvmVa, hypVmVa, pgdVa);
  release(LOCK_VMS);
  return result;
}

/** The record of the vCPU whose struct kvm_vcpu is at `hva`, or 0. LOCK_VMS is held. */
function vcpuOfHva(hva: u64): u64 {
  for (let i: u32 = 0; i < <u32>coreState.vcpuSlots; i++) {
    const vcpu = vcpuAt(i);
    if (vcpu.hva == hva) return changetype<usize>(vcpu);
  }
  return 0;
}

/**
 * Reads which features the host gives a vCPU, and pins its SVE state buffer if it has one. False when the host's
 * description makes no sense.
 */
function readFeatures(vcpu: Vcpu): bool {
  const flags = host_read8(vcpu.pa + profile.cflags);
  vcpu.hcr = (flags & CFLAGS_PTRAUTH) != 0 ? HCR_APK | HCR_API : 0;
  vcpu.svePa = 0;
  vcpu.sveVq = 0;
  if ((flags & CFLAGS_SVE) == 0) return true;
  const vq = <u64>host_read32(vcpu.pa + profile.sveMaxVl) >> 4;
  if (vq == 0 || vq > 16) return false;
  const pa = translateRange(host_read64(vcpu.pa + profile.sveState), sveBytes(vq));
  if (pa == 0 || !pin(pa, sveBytes(vq))) return false;
  vcpu.svePa = pa;
  vcpu.sveVq = vq;
  return true;
}

function initVcpuLocked(handle: u64, hva: u64, hypVcpuVa: u64): i64 {
  const slot = slotOf(handle);
  if (slot == 0) return ENOENT;
  const vm = vmAt(slot);
  if (vm.state != VmState.ACTIVE) return ENOENT;
  if (hva == 0) return EINVAL;
  if (vcpuOfHva(hva) != 0) return EEXIST;
  const free = vcpuOfHva(0);
  let vcpu = vcpuOf(free);
  if (free == 0) {
    if (coreState.vcpuSlots >= MAX_VCPUS) return ENOMEM;
    vcpu = vcpuAt(<u32>coreState.vcpuSlots);
    coreState.vcpuSlots += 1;
  }
  if (!tryAcquire(changetype<usize>(vcpu))) return EBUSY;
  let result: i64 = EINVAL;
  const pa = translateRange(hva, profile.vcpuSize);
  const hypVcpu = translate(hypVcpuVa);
  if (pa != 0 && hypVcpu != 0 && pin(pa, profile.vcpuSize)) {
    vcpu.pa = pa;
    if (readFeatures(vcpu)) {
      vcpu.vm = changetype<usize>(vm);
      vcpu.vttbr = nptVttbr(slot);
      vcpu.vtcr = vm.vtcr;
      vcpu.next = vm.firstVcpu;
      vcpu.fault = 0;
      vcpu.mmioPage = ~0;
      vcpu.hypVcpu = hypVcpu;
      vcpu.hva = hva;
      vm.firstVcpu = changetype<usize>(vcpu);
      vm.vcpus += 1;
      result = 0;
    } else {
      unpin(pa, profile.vcpuSize);
    }
  }
  tryRelease(changetype<usize>(vcpu));
  return result;
}

/** `__pkvm_init_vcpu`: 0 or an error number. */
export function initVcpu(handle: u64, hva: u64, hypVcpuVa: u64): i64 {
  acquire(LOCK_VMS);
  const result = initVcpuLocked(handle, hva, hypVcpuVa);
  release(LOCK_VMS);
  return result;
}

/** Puts a donated page back on the host's list in struct kvm (kvm_hyp_memcache: a stack linked by first words). */
function returnDonated(vm: Vm, page: u64, pages: u64): void {
  for (let i: u64 = 0; i < 16 && i < pages; i++) {
    const pa = (page & ~0xfff) + (i << 12);
    acquire(LOCK_S2PAGE);
    if (isRam(pa) && isHostPage(s2pageIndex(pa))) {
      host_write64(pa, host_read64(vm.kvmPa + profile.teardownHead));
      host_write64(vm.kvmPa + profile.teardownHead, pa);
      host_write64(vm.kvmPa + profile.teardownPages, host_read64(vm.kvmPa + profile.teardownPages) + 1);
    }
    release(LOCK_S2PAGE);
  }
}

/** Holds every vCPU of a VM. False, with none held, when one is running. LOCK_VMS is held. */
function holdVcpus(vm: Vm): bool {
  let next = vm.firstVcpu;
  for (let i: u32 = 0; i < MAX_VCPUS && next != 0; i++) {
    if (!tryAcquire(<usize>changetype<usize>(vcpuOf(next)))) {
      let held = vm.firstVcpu;
      for (let j: u32 = 0; j < MAX_VCPUS && held != next; j++) {
        const vcpu = vcpuOf(held);
        held = vcpu.next;
        tryRelease(changetype<usize>(vcpu));
      }
      return false;
    }
    next = vcpuOf(next).next;
  }
  return true;
}

/** Frees every vCPU record of a VM, all of them held. LOCK_VMS is held. */
function freeVcpus(vm: Vm): void {
  let next = vm.firstVcpu;
  for (let i: u32 = 0; i < MAX_VCPUS && next != 0; i++) {
    const vcpu = vcpuOf(next);
    next = vcpu.next;
    unpin(vcpu.pa, profile.vcpuSize);
    if (vcpu.sveVq != 0) unpin(vcpu.svePa, sveBytes(vcpu.sveVq));
    returnDonated(vm, vcpu.hypVcpu, profile.hypVcpuPages);
    vcpu.hva = 0;
    tryRelease(changetype<usize>(vcpu));
  }
  vm.firstVcpu = 0;
  vm.vcpus = 0;
}

function teardownLocked(handle: u64): i64 {
  const slot = slotOf(handle);
  if (slot == 0) return ENOENT;
  const vm = vmAt(slot);
  if (vm.state == VmState.ACTIVE) {
    if (!holdVcpus(vm)) return EBUSY;
    freeVcpus(vm);
    vm.state = VmState.DYING;
    vm.cursor = 0;
  }
  acquire(slot);
  for (let i: u32 = 0; i < STEP && vm.cursor >> vm.ipaBits == 0; i++) vm.cursor = dismantle(vm, vm.cursor);
  let done = vm.cursor >> vm.ipaBits != 0;
  if (done && !isDismantled(vm)) {
    // Nothing is left when the end is reached. A slot must not be used again where that is wrong, so it is looked up.
    done = false;
    vm.cursor = 0;
  }
  release(slot);
  if (!done) return ERESTART;
  tlbFlushVmid(nptVttbr(slot));
  returnDonated(vm, vm.hypVm, vm.hypVmPages);
  returnDonated(vm, vm.pgd, vm.pgdPages);
  unpin(vm.kvmPa, profile.kvmSize);
  vm.state = VmState.FREE;
  return 0;
}

/** `__pkvm_teardown_vm`: 0, an error number, or ERESTART when there is more to take apart. */
export function teardownVm(handle: u64): i64 {
  acquire(LOCK_VMS);
  const result = teardownLocked(handle);
  release(LOCK_VMS);
  return result;
}

/**
 * Finds and holds the vCPU whose struct kvm_vcpu is at `hva`. `hint` is the record found last, or 0. Returns the
 * record's linear address, or 0 when there is none or another CPU holds it.
 */
export function holdVcpu(hva: u64, hint: u64): u64 {
  if (hva == 0) return 0;
  if (hint != 0) {
    const vcpu = vcpuOf(hint);
    if (atomic.load<u64>(changetype<usize>(vcpu), offsetof<Vcpu>("hva")) == hva) {
      if (!tryAcquire(changetype<usize>(vcpu))) return 0;
      if (vcpu.hva == hva) return changetype<usize>(vcpu);
      tryRelease(changetype<usize>(vcpu));
    }
  }
  acquire(LOCK_VMS);
  let found = vcpuOfHva(hva);
  if (found != 0 && !tryAcquire(changetype<usize>(vcpuOf(found)))) found = 0;
  release(LOCK_VMS);
  return found;
}

/** Lets go of a vCPU that `holdVcpu` returned. */
export function letVcpuGo(vcpu: Vcpu): void {
  tryRelease(changetype<usize>(vcpu));
}

/**
 * Takes back what an ordinary VM maps from `ipa` up to `end`, in steps: returns the address to continue at, at least
 * `end` when all is done. `mmuVa` is the host's struct kvm_s2_mmu. A private VM keeps its pages.
 */
export function flushRange(mmuVa: u64, ipa: u64, end: u64): u64 {
  acquire(LOCK_VMS);
  const slot = slotOfKvm(mmuVa - profile.mmu);
  const vm = vmAt(slot);
  let next = end;
  if (slot != 0 && vm.privateMemory == 0) {
    acquire(slot);
    next = ipa;
    for (let i: u32 = 0; i < STEP && next < end && next >> vm.ipaBits == 0; i++)
      next = takeBackRegion(vm, next);
    tlbFlushVmid(nptVttbr(slot));
    if (next >> vm.ipaBits != 0) next = end;
    release(slot);
  }
  release(LOCK_VMS);
  return next;
}

/** Takes back everything that an ordinary VM maps. */
export function flushAll(mmuVa: u64): void {
  acquire(LOCK_VMS);
  const slot = slotOfKvm(mmuVa - profile.mmu);
  if (slot != 0 && vmAt(slot).privateMemory == 0) {
    acquire(slot);
    takeBackAll(vmAt(slot));
    release(slot);
  }
  release(LOCK_VMS);
}

/** Takes back the page that an ordinary VM maps at `ipa`. */
export function flushPage(mmuVa: u64, ipa: u64): void {
  acquire(LOCK_VMS);
  const slot = slotOfKvm(mmuVa - profile.mmu);
  const vm = vmAt(slot);
  if (slot != 0 && vm.privateMemory == 0 && ipa >> vm.ipaBits == 0) {
    acquire(slot);
    takeBackPage(vm, ipa);
    release(slot);
  }
  release(LOCK_VMS);
}

/** Forgets what this CPU cached for a VM: another of its vCPUs is about to run here. */
export function flushLocal(mmuVa: u64): void {
  acquire(LOCK_VMS);
  const slot = slotOfKvm(mmuVa - profile.mmu);
  if (slot != 0) tlbFlushLocal(nptVttbr(slot));
  release(LOCK_VMS);
}

/** What the host's touching a page that is not its own leads to. */
export namespace Reclaim {
  /** The page has changed hands, to the host if nobody else was faster: try again. */
  export const RETURNED: u32 = 0;
  /** A live VM owns it. */
  export const LIVE: u32 = 1;
  /** The core owns it, or it is none. */
  export const REFUSED: u32 = 2;
}

/** As `reclaim`, for a page that the VM `owner` owned a moment ago. */
function reclaimFrom(pa: u64, owner: u64): u32 {
  acquire(LOCK_VMS);
  const slot = slotOf(owner);
  let result = Reclaim.RETURNED;
  if (slot == 0) {
    returnPage(pa, owner);
  } else {
    acquire(slot);
    if (!withdraw(vmAt(slot), pa)) result = Reclaim.LIVE;
    release(slot);
  }
  release(LOCK_VMS);
  return result;
}

/**
 * Gives the page at `pa`, in RAM, back to the host if its VM is gone or the host has taken it out of its tables.
 *
 * Another CPU may do the same, or donate the page, at any moment between two locks. What was found out about a page
 * that has changed hands since means nothing, so then the host's access is to be tried again.
 */
export function reclaim(pa: u64): u32 {
  const owner = ownerNow(pa);
  let result = Reclaim.REFUSED;
  if (owner == OWNER_HOST) result = mapForHost(pa) ? Reclaim.RETURNED : Reclaim.REFUSED;
  else if (owner > OWNER_RESERVED) result = reclaimFrom(pa, owner);
  return ownerNow(pa) == owner ? result : Reclaim.RETURNED;
}
