/**
 * Squares a number: a pure task for other tasks to call.
 *
 * Input:  { "value": 7 }
 * Result: 49
 */
module.exports.default = async function square(input) {
  if (typeof input?.value !== 'number') {
    throw new TypeError('square needs { "value": <number> }');
  }
  return input.value * input.value;
};
