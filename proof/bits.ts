/** Fields of registers, by name: a bit, or the first and the last. */
export type Bits = Readonly<Record<string, number | readonly [number, number]>>;

/** The word that has ones in the fields. */
export function maskOf(bits: Bits): bigint {
  let mask = 0n;
  for (const place of Object.values(bits)) {
    const [first, last] = typeof place === "number" ? [place, place] : place;
    for (let bit = first; bit <= last; bit++) mask |= 1n << BigInt(bit);
  }
  return mask;
}

/** Some of the fields. @throws Error when there is no such field */
export function fieldsIn(bits: Bits, ...names: readonly string[]): Bits {
  return Object.fromEntries(
    names.map((name) => {
      const place = bits[name];
      if (place === undefined) throw new Error(`there is no field ${name}`);
      return [name, place];
    }),
  );
}
