import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { type CoreWasm, kcoreFolder, LINEAR_MEMORY_SIZE } from "../kcore/build/wasm.ts";
import { cachePath, exists, withRunFolder, writeAtomically } from "./cache.ts";
import { runCommand } from "./command.ts";
import { BootError, oneLine } from "./error.ts";
import type { Job } from "./job.ts";
import type { Tool, Tools } from "./tools.ts";

/** Pages that the image keeps for the EL2 translation tables; see el2tables.ts. */
export const el2TablePages = 16;

/** The core translated to AArch64 and linked, without the data that differs between boots. */
export interface NativeCore {
  /** The image from its first byte to its last initialised one; what follows up to `image_end` is zero. */
  readonly image: Uint8Array;
  /** The linked file, with debug information. */
  readonly elf: string;
  /** Addresses of the linker's symbols. */
  readonly symbols: Map<string, bigint>;
}

const require = createRequire(import.meta.url);
const nativeFolder = join(kcoreFolder, "native");

const cFlags = [
  ...["-O2", "-g", "-std=gnu2x", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-stack-protector"],
  ...["-fno-pic", "-fno-pie", "-mgeneral-regs-only", "-march=armv8-a", "-mno-outline-atomics"],
  `-DLINEAR_MEMORY_SIZE=${LINEAR_MEMORY_SIZE}ull`,
];

/**
 * Translates the core's wasm to C, compiles it with the native part and links both for `loadAddress`. The result is
 * kept in the cache by the hash of all it depends on.
 * @throws BootError when a tool is missing or fails, with its message
 */
export async function buildNative(
  job: Job,
  tools: Tools,
  wasm: CoreWasm,
  loadAddress: bigint,
): Promise<NativeCore> {
  const { gcc, ld, objcopy, nm } = await tools.toolchain();
  const cpus = exportedConstant(wasm, "MAX_CPUS");
  const hash = createHash("sha256").update(
    `${wasm.sha256} ${loadAddress} ${gcc.version} ${ld.version} ${cFlags.join(" ")}`,
  );
  for (const name of (await readdir(nativeFolder)).sort())
    hash.update(await readFile(join(nativeFolder, name)));
  const built = cachePath(job.cache, "built", `core-${hash.digest("hex").slice(0, 32)}`);
  if (!(await exists(built))) {
    job.onProgress({ stage: "building the core" });
    await withRunFolder(job.cache, async (folder) => {
      const run = (tool: Tool, ...args: string[]) => runTool(tool, args, folder, job.signal);
      await writeAtomically(join(folder, "kcore.wasm"), wasm.bytes);
      await writeAtomically(join(folder, "kcore.c"), Buffer.from(await translate(folder, job.signal)));
      await writeAtomically(join(folder, "layout.h"), Buffer.from(layoutHeader(wasm)));
      for (const name of ["core.c", "start.S", "routines.S"]) {
        const flags = name.endsWith(".c") ? cFlags : ["-march=armv8-a"];
        await run(
          gcc,
          ...flags,
          "-I.",
          `-I${nativeFolder}`,
          "-c",
          join(nativeFolder, name),
          "-o",
          `${name}.o`,
        );
      }
      await run(
        ld,
        ...["-T", join(nativeFolder, "core.ld"), "--no-warn-rwx-segments", "-z", "noexecstack"],
        ...[`--defsym=LOAD_ADDRESS=${loadAddress}`, `--defsym=LINEAR_MEMORY_SIZE=${LINEAR_MEMORY_SIZE}`],
        ...[`--defsym=EL2_TABLE_PAGES=${el2TablePages}`, `--defsym=MAX_CPUS=${cpus}`],
        ...["-o", "core.elf", "start.S.o", "routines.S.o", "core.c.o"],
      );
      await run(objcopy, "-O", "binary", "core.elf", "core.bin");
      await writeAtomically(join(folder, "core.nm"), Buffer.from(await run(nm, "core.elf")));
      const result = `${built}.${process.pid}`;
      await mkdir(result, { recursive: true });
      for (const name of ["core.bin", "core.nm", "core.elf"])
        await rename(join(folder, name), join(result, name));
      await rename(result, built).catch(() => rm(result, { recursive: true, force: true }));
    });
  }
  return {
    elf: join(built, "core.elf"),
    image: new Uint8Array(await readFile(join(built, "core.bin"))),
    symbols: parseSymbols(await readFile(join(built, "core.nm"), "latin1")),
  };
}

/**
 * The value of a constant that the core exports.
 * @throws Error when it exports none of that name
 */
export function exportedConstant(wasm: CoreWasm, name: string): number {
  const value = exportedConstants(wasm).get(name);
  if (value === undefined) throw new Error(`kcore.wasm exports no constant ${name}`);
  return value;
}

/** The constants that the core exports: its layout of linear memory. */
export function exportedConstants(wasm: CoreWasm): Map<string, number> {
  const module = new WebAssembly.Module(wasm.bytes);
  const functions = WebAssembly.Module.imports(module).map(({ module: from, name }) => [from, name] as const);
  const imports: Record<string, Record<string, () => never>> = {};
  for (const [from, name] of functions) {
    imports[from] ??= {};
    imports[from][name] = () => {
      throw new Error(`${from}.${name} was called`);
    };
  }
  const values = Object.entries(new WebAssembly.Instance(module, imports).exports);
  return new Map(
    values
      .filter(([, value]) => value instanceof WebAssembly.Global)
      .map(([name, value]) => [name, Number((value as WebAssembly.Global).value)]),
  );
}

function layoutHeader(wasm: CoreWasm): string {
  return [...exportedConstants(wasm)].map(([name, value]) => `#define ${name} ${value}\n`).join("");
}

/**
 * What wasm2c makes of `kcore.wasm` in `folder`, from the first function of the module on: its preamble and the code
 * that instantiates modules are not for bare metal, and native/wasm.h stands in for them.
 */
async function translate(folder: string, signal: AbortSignal): Promise<string> {
  const wasm2c = require.resolve("wabt/bin/wasm2c");
  const done = await runCommand(
    process.execPath,
    [wasm2c, "kcore.wasm", "-n", "kcore", "-o", "generated.c", "--enable-threads"],
    { cwd: folder, signal },
  );
  if (done.status !== 0) throw new Error(`wasm2c refuses the core: ${oneLine(done.stderr)}`);
  const generated = await readFile(join(folder, "generated.c"), "latin1");
  const prototypes = generated.match(/^static [^\n]*\bw2c_kcore_\w+0x2F\w+\([^\n]*\);$/gm);
  const bodies = /^\w+ w2c_kcore_\w+0x2F\w+\([^\n]*\) \{/m.exec(generated);
  if (!prototypes || !bodies) throw new Error("wasm2c's output has another form than expected");
  return `${prototypes.join("\n")}\n${generated.slice(bodies.index)}`;
}

async function runTool(
  tool: Tool,
  args: readonly string[],
  cwd: string,
  signal: AbortSignal,
): Promise<string> {
  const done = await runCommand(tool.command, [...tool.args, ...args], { cwd, env: tool.env, signal });
  if (done.status === 0) return done.stdout;
  throw new BootError(
    `${tool.command} ${tool.version} fails on the core: ${oneLine(done.stderr || done.stdout)}`,
    "use gcc 12 or later for aarch64-linux-gnu, or remove the one on PATH",
  );
}

function parseSymbols(text: string): Map<string, bigint> {
  const lines = text.matchAll(/^([0-9a-f]+) \w (\S+)$/gm);
  return new Map([...lines].map(([, address, name]) => [name as string, BigInt(`0x${address}`)]));
}
