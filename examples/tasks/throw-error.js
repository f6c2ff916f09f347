/**
 * Fails, always. Run it by itself to see how an error that nobody catches looks
 * from outside; catch-error calls it and does catch it.
 *
 * Input:  { "message": "out of coffee" }                        optional
 * Result: none: the run fails with a CoffeeError
 */
class CoffeeError extends Error {
  name = 'CoffeeError';
}

exports.default = async function throwError(input) {
  console.warn('about to fail, as asked');
  throw new CoffeeError(input?.message ?? 'out of coffee');
};
