/**
 * Fulfils an order: checks it, reserves the stock of each line, charges the
 * card, waits until the parcel can be picked up, and confirms. When a line is out
 * of stock or the card is declined, what was reserved is released again.
 *
 * It may wait for seconds or for days: each step is a call of another task, and
 * between the steps the order is a row in Postgres.
 *
 * Input, all optional; this is the order it fulfils when there is none:
 *
 *   {
 *     "orderId": "A-1001",
 *     "email": "ada@example.com",
 *     "card": "card-flaky",
 *     "pickUpInMs": 1500,
 *     "lines": [
 *       { "sku": "tea-assam",  "quantity": 2, "cents": 890 },
 *       { "sku": "teapot-red", "quantity": 1, "cents": 3450 },
 *       { "sku": "cup-white",  "quantity": 4, "cents": 600 }
 *     ]
 *   }
 *
 * Cards to try: card-ok, card-flaky (the second attempt succeeds), card-declined.
 * More than 10 of a sku is out of stock.
 *
 * Result: { "orderId", "status": "fulfilled", "cents", "payment", "confirmation" }
 *     or  { "orderId", "status": "cancelled", "reason", "released": [skus] }
 */
module.exports = async function orderFulfilment(input, { tools }) {
  const order = { ...example, ...input };
  validate(order);
  const { orderId } = order;
  const cents = order.lines.reduce((sum, line) => sum + line.quantity * line.cents, 0);
  console.log(`order ${orderId}: ${order.lines.length} lines, ${money(cents)}`);

  const { reserved, missing } = await reserveStock(tools, order);
  if (missing.length > 0) {
    return cancel(tools, orderId, missing.join('; '), reserved);
  }

  let payment;
  try {
    payment = await chargeCard(tools, { orderId, card: order.card, cents });
  } catch (error) {
    return cancel(tools, orderId, error.message, reserved);
  }
  console.log(`order ${orderId}: paid at attempt ${payment.attempt}`);

  await tools.sleep(order.pickUpInMs);

  const confirmation = await tools.tasks.execute('send-confirmation', {
    orderId,
    email: order.email,
    cents,
    reservations: reserved.map((r) => r.reservation),
  });
  console.log(`order ${orderId}: ready to be picked up`);
  return { orderId, status: 'fulfilled', cents, payment, confirmation };
};

const example = {
  orderId: 'A-1001',
  email: 'ada@example.com',
  card: 'card-flaky',
  pickUpInMs: 1500,
  lines: [
    { sku: 'tea-assam', quantity: 2, cents: 890 },
    { sku: 'teapot-red', quantity: 1, cents: 3450 },
    { sku: 'cup-white', quantity: 4, cents: 600 },
  ],
};

function validate(order) {
  const problems = [];
  if (!order.orderId) problems.push('orderId is missing');
  if (!order.email?.includes('@')) problems.push('email is not an address');
  if (!Array.isArray(order.lines) || order.lines.length === 0) {
    problems.push('lines is empty');
  } else {
    order.lines.forEach((line, i) => {
      if (!line.sku) problems.push(`lines[${i}].sku is missing`);
      if (!(Number.isInteger(line.quantity) && line.quantity > 0)) problems.push(`lines[${i}].quantity is not 1 or more`);
      if (!(Number.isInteger(line.cents) && line.cents >= 0)) problems.push(`lines[${i}].cents is not 0 or more`);
    });
  }
  if (problems.length > 0) {
    throw new Error(`invalid order: ${problems.join(', ')}`);
  }
}

// Reserves all lines at once. One that is out of stock must not hide the
// others, which have to be released: hence allSettled.
async function reserveStock(tools, { orderId, lines }) {
  const outcomes = await Promise.allSettled(
    lines.map(({ sku, quantity }) => tools.tasks.execute('reserve-stock', { orderId, sku, quantity })),
  );
  return {
    reserved: outcomes.filter((o) => o.status === 'fulfilled').map((o) => o.value),
    missing: outcomes.filter((o) => o.status === 'rejected').map((o) => o.reason.message),
  };
}

// Tries up to three times, waiting longer each time. A card that is declined
// will not be accepted by asking again.
async function chargeCard(tools, charge) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await tools.tasks.execute('charge-card', { ...charge, attempt });
    } catch (error) {
      if (error.name === 'CardDeclined' || attempt === 3) {
        throw error;
      }
      console.warn(`attempt ${attempt}: ${error.message}; trying again`);
      await tools.sleep(200 * attempt);
    }
  }
}

async function cancel(tools, orderId, reason, reserved) {
  console.warn(`order ${orderId}: cancelled: ${reason}`);
  const released = await Promise.all(
    reserved.map(({ sku, reservation }) => tools.tasks.execute('release-stock', { sku, reservation })),
  );
  return { orderId, status: 'cancelled', reason, released: released.map((r) => r.sku) };
}

function money(cents) {
  return `${(cents / 100).toFixed(2)} EUR`;
}
