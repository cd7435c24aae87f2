// node build.mjs OUT.wasm: the engine StarlingMonkey with service.js in it, as a component.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { tmpdir } from 'node:os';
import { componentize } from '@bytecodealliance/componentize-js';

const here = import.meta.dirname;
// The interfaces of WASI come with jco, as 0.2.12. The engine knows 0.2.10, which has the same functions.
const jco = dirname(dirname(createRequire(import.meta.url).resolve('@bytecodealliance/jco')));
const wit = mkdtempSync(join(tmpdir(), 'wit-'));
try {
  cpSync(join(here, 'wit'), wit, { recursive: true });
  cpSync(join(jco, 'lib/wit/builtin/0.2.12'), join(wit, 'deps'), { recursive: true });
  for (const name of readdirSync(join(wit, 'deps'))) {
    const file = join(wit, 'deps', name, 'package.wit');
    writeFileSync(file, readFileSync(file, 'utf8').replaceAll('0.2.12', '0.2.10'));
  }
  const { component } = await componentize(readFileSync(join(here, 'service.js'), 'utf8'), { witPath: wit, worldName: 'service' });
  writeFileSync(process.argv[2], component);
} finally {
  rmSync(wit, { recursive: true });
}
