"""What training minimises: pretrain, sft, dpo. The loop is the same for all."""
