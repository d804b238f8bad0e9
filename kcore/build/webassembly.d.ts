/** The part of the JavaScript WebAssembly interface that reading the core's exports needs beside microv's. */
declare namespace WebAssembly {
  namespace Module {
    function imports(module: Module): { module: string; name: string; kind: string }[];
  }

  class Global {
    readonly value: number | bigint;
  }
}
