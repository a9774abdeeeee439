"""The limit of infinite width: kernel matrices, their derivatives, order and chaos."""
