import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cachePath, exists, withRunFolder } from "../boot/cache.ts";
import { runCommand } from "../boot/command.ts";
import type { CpioEntry } from "../boot/cpio.ts";
import { BootError, oneLine } from "../boot/error.ts";
import type { Job } from "../boot/job.ts";
import type { Toolchain, Tools } from "../boot/tools.ts";

/** Where the sources are. */
export const guestsFolder = dirname(fileURLToPath(import.meta.url));

/**
 * Programs that run in the host, by file of programs/, with the shared files that each is linked with. They go to `bin/` of the
 * initramfs.
 */
const programs = {
  vm: ["vmm.c"],
  "fork-exec": ["vmm.c"],
  "attack-core": ["attack.c", "vmm.c"],
  "attack-vmm": ["attack.c", "vmm.c"],
  "attack-vm": ["attack.c", "vmm.c"],
} as const;

/** Bare-metal guests, by file of bare/. They go to `corevisor/bare/` as ELF file, for QEMU, and as flat image, for our own VMM. */
const bareGuests = ["bench", "victim", "peek"] as const;

/** What belongs together: the steps of the host's /init that do a job, with the programs and guests that they use. */
const kits = {
  /** Steps `bench` and `host-cost`: see bench.ts. */
  bench: { programs: ["vm", "fork-exec"], guests: ["bench"], steps: ["bench", "host-cost"] },
  /** Step `attack[:VCPUS]`: reports `attack` and `check` events. */
  attack: {
    programs: ["attack-core", "attack-vmm", "attack-vm"],
    guests: ["victim", "peek"],
    steps: ["attack"],
  },
} as const satisfies Record<
  string,
  {
    readonly programs: readonly (keyof typeof programs)[];
    readonly guests: readonly (typeof bareGuests)[number][];
    readonly steps: readonly string[];
  }
>;

export type Kit = keyof typeof kits;

const commonFlags = ["-O2", "-std=gnu2x", "-Wall", "-Wextra", "-Werror", "-static", "-Wl,--build-id=none"];
const programFlags = [...commonFlags, "-D_GNU_SOURCE", "-s"];
const bareFlags = [
  ...[
    ...commonFlags,
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-pic",
    "-fno-pie",
    "-mgeneral-regs-only",
  ],
  // Without the last one gcc makes a call to memset of the loop in memset.
  ...["-march=armv8-a", "-mno-outline-atomics", "-nostdlib", "-fno-tree-loop-distribute-patterns"],
  ...["-Wl,--no-warn-rwx-segments", "-Wl,-z,noexecstack"],
];

/**
 * Compiles everything, unless the cache has it, and gives the files that each kit adds to the host's initramfs.
 * @throws BootError when the compiler is missing or fails, with its message
 */
export async function buildGuests(
  job: Job,
  tools: Tools,
): Promise<Readonly<Record<Kit, readonly CpioEntry[]>>> {
  const toolchain = await tools.toolchain();
  const folder = await compileAll(job, toolchain);
  const file = async (path: string, from: string): Promise<CpioEntry> => {
    return { path, kind: "file", data: await readFile(from), executable: true };
  };
  const filesOf = (kit: (typeof kits)[Kit]): Promise<CpioEntry[]> =>
    Promise.all([
      ...kit.programs.map((name) => file(`bin/${name}`, join(folder, name))),
      ...kit.guests.flatMap((name) =>
        ["elf", "bin"].map((kind) => file(`corevisor/bare/${name}.${kind}`, join(folder, `${name}.${kind}`))),
      ),
      ...kit.steps.map((name) =>
        file(`corevisor/steps/${name}`, join(guestsFolder, "scripts", `step-${name}.sh`)),
      ),
    ]);
  return { bench: await filesOf(kits.bench), attack: await filesOf(kits.attack) };
}

/** Files of several kits as one list, in which none stands twice. */
export function mergeKits(...lists: readonly (readonly CpioEntry[])[]): CpioEntry[] {
  return [...new Map(lists.flat().map((entry) => [entry.path, entry])).values()];
}

/** The folder of the cache with everything compiled. */
async function compileAll(job: Job, toolchain: Toolchain): Promise<string> {
  const { gcc, objcopy } = toolchain;
  const hash = createHash("sha256").update(`${gcc.version} ${programFlags.join(" ")} ${bareFlags.join(" ")}`);
  for (const part of ["bare", "programs"]) {
    for (const name of (await readdir(join(guestsFolder, part))).sort()) {
      hash.update(`${part}/${name}\0`).update(await readFile(join(guestsFolder, part, name)));
    }
  }
  const built = cachePath(job.cache, "built", `guests-${hash.digest("hex").slice(0, 32)}`);
  if (await exists(built)) return built;
  job.onProgress({ stage: "building our small guests" });
  await withRunFolder(job.cache, async (folder) => {
    const output = join(folder, "guests");
    await mkdir(output);
    const run = async ({ command, args, env }: Toolchain["gcc"], ...words: string[]) => {
      const done = await runCommand(command, [...args, ...words], {
        cwd: guestsFolder,
        env,
        signal: job.signal,
      });
      if (done.status === 0) return;
      throw new BootError(
        `${command} fails on guests/: ${oneLine(done.stderr || done.stdout)}`,
        "use gcc 12 or later for aarch64-linux-gnu, or remove the one on PATH",
      );
    };
    for (const [name, shared] of Object.entries(programs)) {
      const sources = [`${name}.c`, ...shared].map((source) => join("programs", source));
      await run(gcc, ...programFlags, "-o", join(output, name), ...sources);
    }
    for (const name of bareGuests) {
      const elf = join(output, `${name}.elf`);
      const sources = ["start.S", "bare.c", `${name}.c`].map((source) => join("bare", source));
      await run(gcc, ...bareFlags, "-Wl,-T,bare/bare.ld", "-o", elf, ...sources);
      await run(objcopy, "-O", "binary", elf, join(output, `${name}.bin`));
    }
    await rename(output, built).catch(() => rm(output, { recursive: true, force: true }));
  });
  return built;
}
