/**
 * Compiles the core to WebAssembly: the bytes that are proved, translated and booted.
 *
 * The result depends on the sources, the compiler and its options alone, and is kept in the cache folder by their
 * hash, so that every user of the core gets the same bytes and pays for them once.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The folder of the core's sources. */
export const kcoreFolder = dirname(dirname(fileURLToPath(import.meta.url)));

const require = createRequire(import.meta.url);

/** Linear memory in pages of 64 KiB. */
const MEMORY_PAGES = 8;

/** Size of linear memory in bytes. */
export const LINEAR_MEMORY_SIZE = MEMORY_PAGES * 65536;

const OPTIONS = [
  "top.ts",
  "-O1",
  "--debug",
  "--noAssert",
  "--sourceMap",
  ...["--runtime", "stub"],
  ...["--enable", "threads"],
  ...["--initialMemory", `${MEMORY_PAGES}`],
  ...["--maximumMemory", `${MEMORY_PAGES}`],
  ...["--outFile", "kcore.wasm"],
];

/** The core as compiled. */
export interface CoreWasm {
  /** The module. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Its source map, JSON; sources are relative to the core's folder. */
  readonly sourceMap: string;
  /** SHA-256 of the module, hexadecimal. */
  readonly sha256: string;
}

/** What a variant of the core has instead of the source `text` of the file `name`. */
export type Edit = (name: string, text: string) => string;

function sourceFiles(edit: Edit): Map<string, string> {
  const names = readdirSync(kcoreFolder).filter((name) => name.endsWith(".ts"));
  return new Map(
    names.sort().map((name) => [name, edit(name, readFileSync(join(kcoreFolder, name), "utf8"))]),
  );
}

function hashOf(sources: Map<string, string>): string {
  const { version } = require("assemblyscript/package.json");
  const hash = createHash("sha256").update(version).update(OPTIONS.join(" "));
  for (const [name, text] of sources) hash.update(`\n${name} ${text.length}\n${text}`);
  return hash.digest("hex").slice(0, 32);
}

/** Runs the compiler as a process of its own on a copy of `sources` in `folder`: loading it takes long and much memory. */
async function compile(sources: Map<string, string>, folder: string): Promise<void> {
  for (const [name, text] of sources) writeFileSync(join(folder, name), text);
  const asc = join(dirname(require.resolve("assemblyscript/package.json")), "bin", "asc.js");
  try {
    await promisify(execFile)(process.execPath, [asc, ...OPTIONS], { cwd: folder, env: {} });
  } catch (error) {
    throw new Error(`the core does not compile:\n${(error as { stderr?: string }).stderr ?? error}`);
  }
}

/**
 * Compiles the core, or takes it from `cache`, a folder. Tests give an `edit` to compile a variant.
 * @throws Error with the compiler's messages when the sources are wrong.
 */
export async function buildWasm(cache: string, edit: Edit = (_name, text) => text): Promise<CoreWasm> {
  const sources = sourceFiles(edit);
  const folder = join(cache, "kcore", hashOf(sources));
  if (!existsSync(folder)) {
    const fresh = `${folder}.${process.pid}`;
    mkdirSync(fresh, { recursive: true });
    try {
      await compile(sources, fresh);
      renameSync(fresh, folder);
    } catch (error) {
      rmSync(fresh, { recursive: true, force: true });
      if (!existsSync(folder)) throw error;
    }
  }
  const bytes = new Uint8Array(readFileSync(join(folder, "kcore.wasm")));
  return {
    bytes,
    sourceMap: readFileSync(join(folder, "kcore.wasm.map"), "utf8"),
    sha256: createHash("sha256").update(bytes).digest("hex"),
  };
}
