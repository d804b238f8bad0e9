/**
 * Layout of the core's structures in linear memory, read from the classes that declare them, so that tools outside
 * the core find every field by its name.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { kcoreFolder } from "./wasm.ts";

/**
 * Byte offsets of the fields of class `name` in `file` of the core, in order. Every field is a 64-bit word.
 * @throws Error when the class is not there or has a field of another type.
 */
export function fieldsOf(file: string, name: string): Map<string, number> {
  const text = readFileSync(join(kcoreFolder, file), "utf8");
  const body = new RegExp(`class ${name} \\{\\n([\\s\\S]*?)\\n\\}`).exec(text)?.[1];
  if (body === undefined) throw new Error(`no class ${name} in kcore/${file}`);
  const fields = new Map<string, number>();
  for (const line of body.replace(/\/\*\*[\s\S]*?\*\//g, "").split("\n")) {
    if (line.trim() === "") continue;
    const field = /^ {2}(\w+): u64;$/.exec(line)?.[1];
    if (field === undefined)
      throw new Error(`class ${name} in kcore/${file}: cannot read the field "${line.trim()}"`);
    fields.set(field, fields.size * 8);
  }
  return fields;
}

/**
 * Values of the `export const` numbers of namespace `name` in `file` of the core.
 * @throws Error when the namespace is not there.
 */
export function constantsOf(file: string, name: string): Map<string, number> {
  const text = readFileSync(join(kcoreFolder, file), "utf8");
  const body = new RegExp(`namespace ${name} \\{\\n([\\s\\S]*?)\\n\\}`).exec(text)?.[1];
  if (body === undefined) throw new Error(`no namespace ${name} in kcore/${file}`);
  return new Map(
    [...body.matchAll(/export const (\w+): u\d+ = (\w+);/g)].map((m) => [m[1] as string, Number(m[2])]),
  );
}
