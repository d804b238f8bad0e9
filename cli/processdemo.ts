import { BootError } from "../boot/error.ts";
import type { Progress } from "../boot/job.ts";
import type { StoryEvent } from "../boot/story.ts";
import { loadCore } from "../machine/core.ts";
import { CoreFailure } from "../machine/machine.ts";
import { type CpuModelName, cpuModelNames } from "../machine/models.ts";
import { Violation } from "../machine/primitives.ts";
import { tellStory } from "../machine/story.ts";
import { reportsIn, type Told } from "./comparison.ts";
import type { DemoFlags } from "./demo.ts";

const FEWEST_CPUS = 2;
const MOST_CPUS = 64;

const isModel = (name: string): name is CpuModelName => (cpuModelNames as readonly string[]).includes(name);

/**
 * Why the machine in process cannot tell what is asked for; undefined when it can.
 * @param memoryIsGiven whether the user named a memory size
 */
export function cannotTell(
  { core, vms, cpus, cpu }: Pick<DemoFlags, "core" | "vms" | "cpus" | "cpu">,
  memoryIsGiven: boolean,
): BootError | undefined {
  const no = (option: string, remedy: string) =>
    new BootError(`the machine in process cannot do ${option}`, `${remedy}, or use --machine qemu`);
  if (core === "off") return no("--core off: it has no KVM of the host's own", "leave it out");
  if (vms !== "private") return no(`--vms ${vms}: its story has VMs of both kinds`, "leave it out");
  if (memoryIsGiven) return no("--memory: it has what its story needs", "leave it out");
  if (cpus < FEWEST_CPUS || cpus > MOST_CPUS)
    return no(`--cpus ${cpus}`, `name ${FEWEST_CPUS} to ${MOST_CPUS}`);
  if (!isModel(cpu)) return no(`--cpu ${cpu}`, `name one of ${cpuModelNames.join(", ")}`);
  return undefined;
}

/**
 * The demo's story in the machine in process, told as a booted host would tell it.
 * @param flags such that `cannotTell` has no objection
 */
export async function tellInProcess(
  { cpus, cpu }: Pick<DemoFlags, "cpus" | "cpu">,
  onProgress: (progress: Progress) => void,
): Promise<Told> {
  onProgress({ stage: "compiling the core" });
  const core = await loadCore();
  const begin = performance.now();
  const events: StoryEvent[] = [];
  let broken: string | undefined;
  try {
    await tellStory({
      core,
      cpus,
      model: cpu as CpuModelName,
      onEvent: (event) => events.push({ ...event }),
    });
  } catch (error) {
    if (!(error instanceof CoreFailure || error instanceof Violation)) throw error;
    broken = error.message;
  }
  return {
    core: "on",
    vms: "private",
    end: {
      reason: broken === undefined ? "poweroff" : "panic",
      ...(broken !== undefined && { detail: broken }),
      seconds: (performance.now() - begin) / 1000,
      core: { wasmSha256: core.sha256 },
    },
    ...reportsIn(events),
    console: "",
  };
}
