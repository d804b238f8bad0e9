import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./repository.ts";

/** Lines of code of the TypeScript files of a folder: neither blank nor comment. */
function codeLines(folder: string): number {
  const files = readdirSync(join(repository, folder)).filter((name) => name.endsWith(".ts"));
  return files.reduce(
    (sum, name) => sum + linesOfCode(readFileSync(join(repository, folder, name), "utf8")),
    0,
  );
}

/** Lines of TypeScript that hold something beside comments. */
export function linesOfCode(text: string): number {
  const bare = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  return bare.split("\n").filter((line) => line.trim() !== "").length;
}

/** How much specification and proof there is a line of core. Import lists count on both sides. */
export function linesOfProof(): { core: number; proof: number; ratio: number } {
  const core = codeLines("kcore");
  const proof = codeLines("proof");
  return { core, proof, ratio: Number((proof / core).toFixed(2)) };
}
