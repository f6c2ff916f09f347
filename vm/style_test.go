package vm_test

import "testing"

func TestModuleStyles(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{
		"module.exports":           `module.exports = async function (input, { tools }) { return await tools.a.b(input.x) }`,
		"module.exports, sync":     `module.exports = (input, { tools }) => tools.a.b(input.x)`,
		"module.exports.default":   `module.exports.default = async (input, c) => c.tools.a.b(input.x)`,
		"module.exports = object":  `module.exports = { default: async (input) => tools.a.b(input.x) }`,
		"exports.default":          `exports.default = async (input) => await tools.a.b(input.x)`,
		"exports.runTask":          `exports.runTask = async (input, tools) => await tools.a.b(input.x)`,
		"module.exports.runTask":   `module.exports = { async runTask(input, tools) { return await tools.a.b(input.x) } }`,
		"export default function":  `export default async function (input, context) { return await context.tools.a.b(input.x) }`,
		"export default arrow":     `export default (input) => tools.a.b(input.x)`,
		"export runTask":           `export async function runTask(input, tools) { return await tools.a.b(input.x) }`,
		"export runTask, .tools":   `export async function runTask(input, { tools }) { return await tools.a.b(input.x) }`,
		"both, module wins":        `module.exports = (input) => tools.a.b(input.x); export default () => 'wrong'`,
		"await at the top":         `const f = await tools.x.y(7); module.exports = async (input) => [await tools.a.b(input.x), f][0]`,
		"module, await at the top": `const f = await tools.x.y(7); export default async (input) => f === 7 ? await tools.a.b(input.x) : 'wrong'`,
		"sloppy mode":              `with ({ y: 1 }) { undeclared = 2 } module.exports = (input) => tools.a.b(input.x)`,
		"hashbang and BOM":         "\ufeff#!/usr/bin/env node\nmodule.exports = (input) => tools.a.b(input.x)",
		"a comment at the end":     `module.exports = (input) => tools.a.b(input.x) // so`,
		"first era":                `module.exports = async (input) => __callHostTool__('a', ['b'], [input.x])`,
		"dotted path":              `module.exports = async (input) => __callHostTool__('a', 'b', [input.x])`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := shared.Check(t.Context(), "task", code); err != nil {
				t.Errorf("Check: %v", err)
			}
			out := start(t, code, `{"x":41}`)
			if out.Err != nil {
				t.Fatal(out.Err, out.Err.Stack)
			}
			wantResult(t, finish(t, out, echo), "41")
		})
	}
}
