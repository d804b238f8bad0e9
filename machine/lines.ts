/** From a byte of the wasm to the line of TypeScript it was compiled from, by a version 3 source map. */

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/**
 * Reads a source map when it is first asked.
 * @param json the contents of the `.wasm.map` file
 * @returns a function from an offset in the module to `file:line`, or undefined before the first mapping
 */
export function lineFinder(json: string): (offset: number) => string | undefined {
  let segments: { offset: number; line: string }[] | undefined;
  return (offset) => {
    segments ??= readMap(json);
    return segments.findLast((segment) => segment.offset <= offset)?.line;
  };
}

function readMap(json: string): { offset: number; line: string }[] {
  const map = JSON.parse(json) as { sources: string[]; mappings: string };
  const segments: { offset: number; line: string }[] = [];
  let [offset, source, line] = [0, 0, 0];
  for (const group of map.mappings.split(",")) {
    const numbers = decodeGroup(group);
    offset += numbers[0] ?? 0;
    source += numbers[1] ?? 0;
    line += numbers[2] ?? 0;
    if (numbers.length >= 4) segments.push({ offset, line: `${map.sources[source]}:${line + 1}` });
  }
  return segments;
}

/** The numbers of one base-64 VLQ group. */
function decodeGroup(group: string): number[] {
  const numbers: number[] = [];
  let value = 0;
  let shift = 0;
  for (const character of group) {
    const digit = DIGITS.indexOf(character);
    value += (digit & 31) * 2 ** shift;
    shift += 5;
    if ((digit & 32) !== 0) continue;
    numbers.push(value % 2 === 1 ? -(value - 1) / 2 : value / 2);
    value = 0;
    shift = 0;
  }
  return numbers;
}
