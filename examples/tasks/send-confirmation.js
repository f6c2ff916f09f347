/**
 * Confirms an order: here it only writes the message that a mail service would
 * send.
 *
 * Input:  { "orderId": "A-1001", "email": "ada@example.com", "cents": 7630, "reservations": ["A-1001/tea-assam"] }
 * Result: { "to": "ada@example.com", "subject": "Order A-1001 is ready", "text": "..." }
 */
exports.default = async function sendConfirmation({ orderId, email, cents, reservations }) {
  const items = `${reservations.length} ${reservations.length === 1 ? 'item' : 'items'}`;
  return {
    to: email,
    subject: `Order ${orderId} is ready`,
    text: `${items}, ${(cents / 100).toFixed(2)} EUR, paid. See you soon!`,
  };
};
