/**
 * Gives back what reserve-stock reserved: the compensation of an order that
 * cannot be fulfilled.
 *
 * Input:  { "sku": "tea-assam", "reservation": "A-1001/tea-assam" }
 * Result: { "sku": "tea-assam", "released": true }
 */
export async function runTask({ sku, reservation }) {
  console.log(`released ${reservation}`);
  return { sku, released: true };
}
