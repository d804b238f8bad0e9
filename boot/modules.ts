import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { CpioEntry } from "./cpio.ts";
import { parseElf } from "./elf.ts";
import { BootError } from "./error.ts";

/** A kernel module, unpacked. */
export interface KernelModule {
  /** As in /proc/modules: with `_`, never `-`. */
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly depends: readonly string[];
  /** Device names it drives (modalias patterns). */
  readonly aliases: readonly string[];
}

/** Unpacks an xz file. */
export type Unxz = (path: string) => Promise<Uint8Array>;

/**
 * The modules with these names and all that they depend on, each after its dependencies. Debian's packages carry no
 * modules.dep, which depmod makes on the target; the modules themselves say what they need (.modinfo). A module that is built
 * into the kernel is left out.
 * @param folder `lib/modules/RELEASE` of an unpacked kernel package
 * @throws BootError when the kernel has no such module
 */
export async function loadModules(
  folder: string,
  names: readonly string[],
  unxz: Unxz,
): Promise<KernelModule[]> {
  const files = await indexModules(folder);
  const builtIn = await readBuiltIn(folder);
  const loaded = new Map<string, KernelModule>();
  const load = async (wanted: string, neededBy: string) => {
    const name = moduleName(wanted);
    if (loaded.has(name) || builtIn.has(name)) return;
    const file = files.get(name);
    if (file === undefined) {
      throw new BootError(
        `the kernel in ${folder} has no module ${name}, needed by ${neededBy}`,
        "use Debian's kernel",
      );
    }
    const bytes = file.endsWith(".xz") ? await unxz(file) : await readFile(file);
    const module = parseModule(name, bytes);
    for (const dependency of module.depends) await load(dependency, name);
    loaded.set(name, module);
  };
  for (const name of names) await load(name, "the initramfs");
  return [...loaded.values()];
}

/**
 * The files that busybox's modprobe needs for these modules: the modules, modules.dep and modules.alias.
 * @param release the kernel's release, which names the folder
 */
export function moduleFiles(release: string, modules: readonly KernelModule[]): CpioEntry[] {
  const folder = `lib/modules/${release}`;
  const byName = new Map(modules.map((module) => [module.name, module]));
  // Each line names everything to load, the last first.
  const closure = (module: KernelModule): string[] =>
    module.depends.flatMap((name) => {
      const dependency = byName.get(name);
      return dependency ? [name, ...closure(dependency)] : [];
    });
  const dependencies = modules.map(
    (module) => `${module.name}.ko: ${[...new Set(closure(module))].map((name) => `${name}.ko`).join(" ")}\n`,
  );
  const aliases = modules.flatMap(({ name, aliases }) => aliases.map((alias) => `alias ${alias} ${name}\n`));
  return [
    ...modules.map(
      ({ name, bytes }): CpioEntry => ({ path: `${folder}/${name}.ko`, kind: "file", data: bytes }),
    ),
    { path: `${folder}/modules.dep`, kind: "file", data: Buffer.from(dependencies.join("")) },
    { path: `${folder}/modules.alias`, kind: "file", data: Buffer.from(aliases.join("")) },
  ];
}

/** Reads what a module says of itself. */
export function parseModule(name: string, bytes: Uint8Array): KernelModule {
  const section = parseElf(bytes, `module ${name}`).section(".modinfo") ?? new Uint8Array();
  const lines = Buffer.from(section).toString("latin1").split("\0");
  const values = (key: string) =>
    lines.filter((line) => line.startsWith(`${key}=`)).map((line) => line.slice(key.length + 1));
  const depends = values("depends")
    .flatMap((list) => list.split(","))
    .filter((dependency) => dependency !== "");
  return { name, bytes, depends: depends.map(moduleName), aliases: values("alias") };
}

/** Module names by file, and in some places with `-`, mean the same with `_`. */
function moduleName(name: string): string {
  return name.replaceAll("-", "_");
}

async function indexModules(folder: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const name = /^(.*)\.ko(?:\.xz)?$/.exec(entry.name)?.[1];
    if (name !== undefined) files.set(moduleName(name), join(entry.parentPath, entry.name));
  }
  return files;
}

async function readBuiltIn(folder: string): Promise<Set<string>> {
  const list = await readFile(join(folder, "modules.builtin"), "utf8");
  return new Set([...list.matchAll(/([^/\n]+)\.ko$/gm)].map(([, name = ""]) => moduleName(name)));
}
