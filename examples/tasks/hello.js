/**
 * Greets somebody: the smallest task, input in and result out, no calls.
 *
 * Input:  { "name": "Ada" }           optional; without a name it greets the world
 * Result: { "greeting": "Hello, Ada!" }
 */
module.exports = async function hello(input) {
  const name = input?.name ?? 'world';
  return { greeting: `Hello, ${name}!` };
};
