/** What tests of the core begin with: a watched machine, switched on, with a host kernel on every CPU. */
import type { CoreModule } from "../core.ts";
import { loadCore } from "../core.ts";
import { Invariants } from "../invariants.ts";
import { Kernel } from "../kernel.ts";
import { Machine, type MachineOptions } from "../machine.ts";
import { chooseStructures, type Structures } from "../structures.ts";

export interface Lab {
  readonly machine: Machine;
  readonly invariants: Invariants;
  readonly kernel: Kernel;
  readonly structures: Structures;
}

export interface LabOptions extends Omit<MachineOptions, "profile"> {
  /** Chooses the layout of the kernel's structures. */
  readonly seed?: number;
  readonly core?: CoreModule;
  /** Called with the machine before it is switched on. */
  readonly prepare?: (machine: Machine) => void;
}

/** The core as it is built. */
export const stockCore: CoreModule = await loadCore();

/** Pages of 32 MiB. */
const RAM_PAGES = 8192;

/** A machine that is watched from its first step; 32 MiB of RAM, of which the core has 4. */
export function openLab(options: LabOptions = {}): Lab {
  const { seed, core, prepare, ...rest } = options;
  const structures = chooseStructures(seed ?? 1);
  const machine = new Machine(core ?? stockCore, {
    ramPages: RAM_PAGES,
    ...rest,
    profile: structures.profile,
  });
  const invariants = new Invariants(machine);
  prepare?.(machine);
  machine.powerOn();
  const kernel = new Kernel(machine, structures);
  kernel.startAll();
  return { machine, invariants, kernel, structures };
}
