import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { kcoreFolder } from "../kcore/build/wasm.ts";
import { runCommand } from "./command.ts";
import type { Tool } from "./tools.ts";

/**
 * Where an address of the core's native code comes from, innermost function first: `hostmapMap at kcore/hostmap.ts:96`
 * for code that was AssemblyScript, the symbol for native code. Empty for an address outside the core.
 * @param elf the core's linked file, with debug information
 */
export async function symbolize(elf: string, address: bigint, addr2line: Tool): Promise<string[]> {
  const done = await runCommand(
    addr2line.command,
    [...addr2line.args, "--functions", "--inlines", "--exe", elf, `0x${address.toString(16)}`],
    { env: addr2line.env },
  );
  const names = done.stdout.split("\n").filter((_, line) => line % 2 === 0);
  const frames = await Promise.all(names.filter((name) => name !== "" && name !== "??").map(frameOf));
  return frames;
}

/** wasm2c's name of a function is `w2c_kcore_FILE0x2FFUNCTION`, with gcc's suffixes for clones. */
async function frameOf(symbol: string): Promise<string> {
  const parts = /^w2c_kcore_(\w+)0x2F(\w+)/.exec(symbol);
  if (!parts) return symbol;
  const [, file, name] = parts;
  const source = await readFile(join(kcoreFolder, `${file}.ts`), "utf8").catch(() => "");
  const line = source.split("\n").findIndex((text) => text.includes(`function ${name}(`)) + 1;
  return `${name} at kcore/${file}.ts:${line}`;
}
