/**
 * Charges a card, or says why not. The card's name decides what happens, so that
 * each case can be tried: card-declined is always declined, card-flaky meets a
 * bank that does not answer the first time, all others are fine.
 *
 * Input:  { "orderId": "A-1001", "card": "card-ok", "cents": 7630, "attempt": 1 }
 * Result: { "receipt": "A-1001-1", "cents": 7630, "attempt": 1 }
 */
module.exports.default = async function chargeCard({ orderId, card, cents, attempt = 1 }) {
  if (card === 'card-declined') {
    throw new CardDeclined('the card was declined');
  }
  if (card === 'card-flaky' && attempt === 1) {
    throw new Error('the bank did not answer');
  }
  return { receipt: `${orderId}-${attempt}`, cents, attempt };
};

class CardDeclined extends Error {
  name = 'CardDeclined';
}
