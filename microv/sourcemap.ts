/** Source maps (version 3): from a byte of the wasm to the line of TypeScript it was compiled from. */

export interface Position {
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  /** Counted from 1. */
  readonly column: number;
}

/** Bytes from `offset` on come from `position`. Bytes that come from no source have no segment, and count to the one before. */
interface Segment {
  readonly offset: number;
  readonly position: Position;
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The numbers of one base-64 VLQ group. */
function decodeGroup(group: string): number[] {
  const numbers: number[] = [];
  let value = 0;
  let shift = 0;
  for (const character of group) {
    const digit = DIGITS.indexOf(character);
    if (digit < 0) throw new Error(`source map: ${JSON.stringify(character)} is not a base-64 digit`);
    value += (digit & 31) * 2 ** shift;
    if (digit & 32) {
      shift += 5;
      continue;
    }
    numbers.push(value % 2 === 1 ? -(value - 1) / 2 : value / 2);
    value = 0;
    shift = 0;
  }
  return numbers;
}

/** Finds source positions of a module compiled with `asc --sourceMap`. */
export class SourceMap {
  private readonly segments: Segment[] = [];

  /**
   * @param json the contents of the `.wasm.map` file
   * @throws Error when it is no version 3 source map
   */
  constructor(json: string) {
    const map = JSON.parse(json) as { version?: number; sources?: string[]; mappings?: string };
    if (map.version !== 3 || !Array.isArray(map.sources) || typeof map.mappings !== "string") {
      throw new Error("source map: not version 3");
    }
    let [offset, source, line, column] = [0, 0, 0, 0];
    const first = map.mappings.split(";")[0] as string;
    for (const group of first.split(",")) {
      if (group === "") continue;
      const numbers = decodeGroup(group);
      offset += numbers[0] ?? 0;
      if (numbers.length < 4) continue;
      source += numbers[1] ?? 0;
      line += numbers[2] ?? 0;
      column += numbers[3] ?? 0;
      const position = { file: map.sources[source] ?? "?", line: line + 1, column: column + 1 };
      this.segments.push({ offset, position });
    }
    this.segments.sort((a, b) => a.offset - b.offset);
  }

  /**
   * The position of a byte: that of the last mapping at or before it. Within a function, given by its range of bytes, instructions before
   * the first mapping take that one; none when the range has no mapping.
   */
  at(
    offset: number,
    range: { start: number; end: number } = { start: 0, end: offset + 1 },
  ): Position | undefined {
    let low = 0;
    let high = this.segments.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.segments[middle] as Segment).offset <= offset) low = middle + 1;
      else high = middle;
    }
    const [before, after] = [this.segments[low - 1], this.segments[low]];
    if (before && before.offset >= range.start) return before.position;
    return after && after.offset < range.end ? after.position : undefined;
  }

  /** `file:line` of a byte, or `byte N` when the map says nothing. */
  describe(offset: number, range?: { start: number; end: number }): string {
    const position = this.at(offset, range);
    return position ? `${position.file}:${position.line}` : `byte ${offset}`;
  }
}
