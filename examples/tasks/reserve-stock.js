/**
 * Reserves one line of an order. The short sleep stands for a warehouse that
 * takes its time to answer.
 *
 * Input:  { "orderId": "A-1001", "sku": "tea-assam", "quantity": 2 }
 * Result: { "sku": "tea-assam", "quantity": 2, "reservation": "A-1001/tea-assam" }
 */
export default async function reserveStock({ orderId, sku, quantity }, { tools }) {
  await tools.sleep(150);
  if (quantity > onHand) {
    throw new Error(`${sku}: ${quantity} wanted, ${onHand} on hand`);
  }
  return { sku, quantity, reservation: `${orderId}/${sku}` };
}

const onHand = 10; // of everything
