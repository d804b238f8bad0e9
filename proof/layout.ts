/**
 * Where the core keeps its state, read from its sources and its wasm by name: the specification holds no address of its own.
 */
import { constantsOf, fieldsOf } from "../kcore/build/structs.ts";
import { bv, type Module, type Term } from "../microv/index.ts";

/** Constants that `kcore/layout.ts` exports, by name. */
export interface Layout {
  /** Value of an exported constant. @throws Error when the module exports no such global */
  constant(name: string): number;
}

export function layoutOf(module: Module): Layout {
  const globals = new Map(
    module.exports.flatMap(({ name, kind, index }) =>
      kind === "global"
        ? [[name.split("/").at(-1) as string, Number(module.globals[index]?.value)] as const]
        : [],
    ),
  );
  return {
    constant: (name) => {
      const value = globals.get(name);
      if (value === undefined) throw new Error(`the core exports no constant ${name}`);
      return value;
    },
  };
}

function offsets(file: string, name: string): (field: string) => number {
  const fields = fieldsOf(file, name);
  return (field) => {
    const offset = fields.get(field);
    if (offset === undefined) throw new Error(`class ${name} of kcore/${file} has no field ${field}`);
    return offset;
  };
}

/** Byte offsets of fields. */
export const field = {
  bootInfo: offsets("bootinfo.ts", "BootInfo"),
  core: offsets("bootinfo.ts", "CoreState"),
  vm: offsets("records.ts", "Vm"),
  vcpu: offsets("records.ts", "Vcpu"),
  cpu: offsets("percpu.ts", "Cpu"),
  profile: offsets("profile.ts", "Profile"),
  panicRecord: offsets("trace.ts", "PanicRecord"),
};

/** Names of fields, in order. */
export const fieldNames = { profile: [...fieldsOf("profile.ts", "Profile").keys()] };

/** Numbers of a namespace of the core, such as `Exit.TRAP`, as words of `width` bits. */
export function constants(file: string, name: string, width: number): (constant: string) => Term {
  const values = constantsOf(file, name);
  return (constant) => {
    const value = values.get(constant);
    if (value === undefined) throw new Error(`namespace ${name} of kcore/${file} has no ${constant}`);
    return bv(value, width);
  };
}
